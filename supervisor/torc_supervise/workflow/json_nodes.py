"""JSON and JSON5 to nodes: the standard library's reader keeps no positions, so this one does."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NoReturn

from torc_supervise.workflow.nodes import MAX_DEPTH, Mapping, Node, Scalar, Sequence, SourceSyntaxError

_SPACE = re.compile(r"[ \t\n\r]*")
_SPACE5 = re.compile(r"(?:[\s\ufeff]+|//[^\n\r\u2028\u2029]*|/\*(?:[^*]|\*(?!/))*\*/)*")
_PLAIN = {'"': re.compile(r'[^"\\\x00-\x1f]*'), "'": re.compile(r"[^'\\\n\r]*")}
_PLAIN5 = {'"': re.compile(r'[^"\\\n\r]*'), "'": _PLAIN["'"]}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![0-9A-Za-z_.$])", re.ASCII)
_NUMBER5 = re.compile(
    r"[+-]?(?:(?P<hex>0[xX][0-9a-fA-F]+)|(?P<special>Infinity|NaN)"
    r"|(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]*)?(?P<exponent>[eE][+-]?[0-9]+)?"
    r"|(?P<bare>\.[0-9]+)(?P<exponent2>[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_.$])",
    re.ASCII,
)
_WORD = re.compile(r"[^\W\d][\w$\u200c\u200d]*|[$_][\w$\u200c\u200d]*")
_HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_LINE = re.compile(r"\r\n|\n|\r")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPES5 = {**_ESCAPES, "'": "'", "v": "\v", "0": "\0", "\n": "", "\r": "", "\u2028": "", "\u2029": ""}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
MAX_DIGITS = 400  # int() of a very long number is slow, and no field takes one

_JSON5_HINT = "name the file .json5 to use comments, trailing commas, single quotes and bare keys"


def parse_json(text: str) -> Node:
    """The node tree of a strict JSON document (RFC 8259).

    Raises:
        SourceSyntaxError: not JSON, or nested deeper than 100 levels.
    """
    return _Parser(text, json5=False).document()


def parse_json5(text: str) -> Node:
    """The node tree of a JSON5 document (json5.org, version 1.0.0).

    Raises:
        SourceSyntaxError: not JSON5, or nested deeper than 100 levels.
    """
    return _Parser(text, json5=True).document()


def starts_with_bracket(text: str) -> bool:
    """Whether the first character after space and JSON5 comments opens a map or a list."""
    match = _SPACE5.match(text)
    assert match is not None  # the pattern matches the empty text
    return text[match.end() : match.end() + 1] in ("{", "[")


class _Parser:
    def __init__(self, text: str, *, json5: bool) -> None:
        self.text = text
        self.json5 = json5
        self.space = _SPACE5 if json5 else _SPACE
        self.plain = _PLAIN5 if json5 else _PLAIN
        self.quotes = "\"'" if json5 else '"'
        self.at = 0
        self.depth = 0
        self.line_starts = [0, *(match.end() for match in _LINE.finditer(text))]

    def document(self) -> Node:
        self.skip()
        root = self.value()
        self.skip()
        if self.at < len(self.text):
            self.fail("expected the end of the file after the value")
        return root

    def skip(self) -> None:
        match = self.space.match(self.text, self.at)
        assert match is not None  # the pattern matches the empty text
        self.at = match.end()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def position(self, at: int) -> tuple[int, int]:
        line = bisect_right(self.line_starts, at)
        return line, at - self.line_starts[line - 1] + 1

    def fail(self, message: str, at: int | None = None, hint: str | None = None) -> NoReturn:
        line, column = self.position(self.at if at is None else at)
        raise SourceSyntaxError(line, column, message, hint)

    def unexpected(self, expected: str) -> NoReturn:
        got = repr(self.peek()) if self.peek() else "the end of the file"
        hint = _JSON5_HINT if not self.json5 and self.peek() in ("/", "'", "}", "]") else None
        self.fail(f"expected {expected}, got {got}", hint=hint)

    def value(self) -> Node:
        first = self.peek()
        if first == "{":
            return self.container(Mapping(*self.position(self.at)), "}")
        if first == "[":
            return self.container(Sequence(*self.position(self.at)), "]")
        if first and first in self.quotes:
            start = self.at
            return Scalar(text := self.string(first), text, *self.position(start))
        if first and (first.isdigit() or first in "+-.IN"):
            return self.number()
        match = _WORD.match(self.text, self.at)
        if match is None or match[0] not in _WORDS:
            self.unexpected("a value")
        self.at = match.end()
        return Scalar(_WORDS[match[0]], match[0], *self.position(match.start()))

    def container(self, node: Mapping | Sequence, closing: str) -> Node:
        """The rest of a map or list whose opening bracket is next."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        self.at += 1
        self.skip()
        while self.peek() != closing:
            if isinstance(node, Mapping):
                self.entry(node)
            else:
                node.items.append(self.value())
            self.skip()
            if self.peek() == closing:
                break
            if self.peek() != ",":
                self.unexpected(f"',' or {closing!r}")
            self.at += 1
            self.skip()
            if self.peek() == closing and not self.json5:
                self.unexpected("another value after ','")
        self.at += 1
        self.depth -= 1
        return node

    def entry(self, node: Mapping) -> None:
        start = self.at
        name = self.key()
        key = Scalar(name, name, *self.position(start))
        self.skip()
        if self.peek() != ":":
            self.unexpected("':' after the key")
        self.at += 1
        self.skip()
        node.add(name, key, self.value())

    def key(self) -> str:
        first = self.peek()
        if first and first in self.quotes:
            return self.string(first)
        match = _WORD.match(self.text, self.at) if self.json5 else None
        if match is None:
            self.unexpected("a key in quotes" if not self.json5 else "a key")
        self.at = match.end()
        return match[0]

    def number(self) -> Scalar:
        start = self.at
        match = (_NUMBER5 if self.json5 else _NUMBER).match(self.text, start)
        if match is None or len(match[0]) > MAX_DIGITS:
            self.fail("not a number", hint=None if self.json5 else "put text in quotes")
        self.at = match.end()
        return Scalar(_number(match, self.json5), match[0], *self.position(start))

    def string(self, quote: str) -> str:
        start = self.at
        self.at += 1
        parts: list[str] = []
        while True:
            match = self.plain[quote].match(self.text, self.at)
            assert match is not None  # the pattern matches the empty text
            parts.append(match[0])
            self.at = match.end()
            if self.peek() == quote:
                break
            if self.peek() != "\\":
                self.fail(*self.unclosed(start))
            parts.append(self.escape())
        self.at += 1
        text = "".join(parts)
        # Two \u escapes may make one character beyond the basic plane; half a pair is no character at all.
        if not text.isascii():
            try:
                text = text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                self.fail("half of a surrogate pair is not a character", start)
        return text

    def unclosed(self, start: int) -> tuple[str, int]:
        if self.peek() in ("", "\n", "\r"):
            return "this text has no closing quote on its line", start
        return "a control character in a text must be written as an escape", self.at

    def escape(self) -> str:
        start = self.at
        letter = self.text[start + 1 : start + 2]
        self.at += 2
        if letter == "u" or (letter == "x" and self.json5):
            size = 4 if letter == "u" else 2
            digits = self.text[self.at : self.at + size]
            if len(digits) != size or not _HEX.fullmatch(digits):
                self.fail(f"expected {size} hexadecimal digits after '\\{letter}'", start)
            self.at += size
            return chr(int(digits, 16))
        if letter == "\r" and self.json5 and self.peek() == "\n":
            self.at += 1
        known = _ESCAPES5 if self.json5 else _ESCAPES
        if letter in known:
            return known[letter]
        if not self.json5 or not letter or letter.isdigit():
            self.fail(f"there is no escape '\\{letter}'", start, "write \\\\ for a backslash")
        return letter


def _number(match: re.Match[str], json5: bool) -> int | float:
    text = match[0]
    if not json5:
        return float(text) if match[1] or match[2] else int(text)
    if match["hex"]:
        return -int(match["hex"], 16) if text[0] == "-" else int(match["hex"], 16)
    if match["special"]:
        return float(text.replace("Infinity", "inf"))
    whole = not (match["fraction"] or match["exponent"] or match["bare"])
    return int(text) if whole else float(text)
