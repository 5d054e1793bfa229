"""YAML 1.2 (core schema) to nodes.

ruamel.yaml scans and parses; the tree is built here, from its events.  That gives a position to every key and
value, takes half of the time of the library's own composer, and is where aliases, merge keys, repeated keys and
depth are under our control.  Scalars follow the core schema of YAML 1.2 to the letter: ``1:4``, ``4:00:00``,
``yes`` and ``on`` are text, ``0o17`` is fifteen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from torc_supervise.workflow.nodes import (
    MAX_DEPTH,
    Mapping,
    Node,
    Primitive,
    Scalar,
    Sequence,
    SourceSyntaxError,
    describe,
)

MAX_ALIASED_NODES = 1_000_000

_INT = re.compile(r"[-+]?[0-9]{1,400}", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]{1,400}", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]{1,400}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = (".nan", ".NaN", ".NAN")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TAG_PREFIX = "tag:yaml.org,2002:"
_SCALAR_TAGS = ("str", "int", "float", "bool", "null")


def parse_yaml(text: str) -> Node:
    """The node tree of a YAML document.

    Raises:
        SourceSyntaxError: not YAML, several documents, tags beyond the core schema, an alias that stands for
            itself or for too much, nested deeper than 100 levels.
    """
    # The scanner takes a mark of order in the text for a character; ours was removed while decoding.
    return _Composer().compose(_events(text))


def _events(text: str) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(part for part in (error.context, error.problem) if part)
        raise SourceSyntaxError(*_place(mark), f"not valid YAML: {_one_line(words)}", _hint(words)) from error
    except (YAMLError, YAMLStreamError) as error:  # ReaderError: a character that YAML does not allow
        at = getattr(error, "position", 0)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        character = getattr(error, "character", None)
        code = character if isinstance(character, int) else ord(character) if character else None
        what = f"the character U+{code:04X} is not allowed" if code is not None else _one_line(str(error))
        raise SourceSyntaxError(line, column, f"not valid YAML: {what}") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The scanner trips over some malformed escapes and directives instead of reporting them.
        raise SourceSyntaxError(1, 1, f"not valid YAML: {_one_line(str(error)) or 'malformed'}") from error


class _Open:
    """A container that is being filled; ``size`` and ``height`` count what it holds, aliases expanded."""

    __slots__ = ("anchor", "height", "key", "merges", "node", "size")

    def __init__(self, node: Mapping | Sequence, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Scalar | None = None
        self.merges: list[tuple[Node, Node]] = []  # key and value of each <<
        self.size = 1
        self.height = 1


class _Composer:
    def __init__(self) -> None:
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node | None, int, int]] = {}  # name -> node, size, height
        self.aliased = 0
        self.root: Node | None = None
        self.documents = 0

    def compose(self, events: Iterator[Any]) -> Node:
        for event in events:
            if isinstance(event, ScalarEvent):
                self.place(_scalar(event), event.anchor)
            elif isinstance(event, MappingStartEvent):
                self.open(Mapping(*_place(event.start_mark)), event, "map")
            elif isinstance(event, SequenceStartEvent):
                self.open(Sequence(*_place(event.start_mark)), event, "seq")
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.close()
            elif isinstance(event, AliasEvent):
                self.alias(event)
            elif isinstance(event, DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    hint = "keep one workflow per file, without '---' in between"
                    raise SourceSyntaxError(
                        *_place(event.start_mark), "a second YAML document starts here", hint
                    )
        return self.root or Scalar(None, "", 1, 1)

    def open(self, node: Mapping | Sequence, event: Any, tag: str) -> None:
        if event.tag is not None and event.tag not in ("!", _TAG_PREFIX + tag):
            raise _bad_tag(event, node)
        if len(self.stack) >= MAX_DEPTH:
            raise _too_deep(node)
        if self.stack and isinstance(self.stack[-1].node, Mapping) and self.stack[-1].key is None:
            raise SourceSyntaxError(node.line, node.column, f"expected a key, got {describe(node)}")
        if event.anchor:
            self.anchors[event.anchor] = (None, 0, 0)  # open: an alias to it now would contain itself
        self.stack.append(_Open(node, event.anchor))

    def close(self) -> None:
        done = self.stack.pop()
        for key, value in done.merges:
            assert isinstance(done.node, Mapping)
            _merge(done.node, key, value)
        if done.anchor:
            self.anchors[done.anchor] = (done.node, done.size, done.height)
        self.attach(done.node, done.size, done.height)

    def place(self, scalar: Scalar, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (scalar, 1, 0)
        self.attach(scalar, 1, 0)

    def alias(self, event: Any) -> None:
        line, column = _place(event.start_mark)
        node, size, height = self.anchors.get(event.anchor, (None, -1, 0))
        if node is None:
            known = size >= 0
            message = "stands for a value that contains itself" if known else "has no anchor before it"
            raise SourceSyntaxError(line, column, f"the alias '*{event.anchor}' {message}")
        self.aliased += size
        if self.aliased > MAX_ALIASED_NODES:
            message = f"the aliases of this file stand for more than {MAX_ALIASED_NODES:,} values"
            raise SourceSyntaxError(line, column, message, "use job parameters to make many jobs")
        if len(self.stack) + height > MAX_DEPTH:
            raise SourceSyntaxError(line, column, f"nested deeper than {MAX_DEPTH} levels")
        self.attach(node, size, height)

    def attach(self, node: Node, size: int, height: int) -> None:
        """Put a finished value where it belongs: as root, list item, key or map value."""
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif top.key is None:
            if not isinstance(node, Scalar):
                raise SourceSyntaxError(node.line, node.column, f"expected a key, got {describe(node)}")
            top.key = node
        elif isinstance(top.key.value, _MergeKey):
            top.merges.append((top.key, node))
            top.key = None
        else:
            top.node.add(_key_name(top.key), top.key, node)
            top.key = None


class _MergeKey(str):
    """The text ``<<`` written plainly: as a key it merges another map in."""

    __slots__ = ()


def _merge(target: Mapping, key: Node, value: Node) -> None:
    sources = value.items if isinstance(value, Sequence) else [value]
    for source in sources:
        if not isinstance(source, Mapping):
            raise SourceSyntaxError(key.line, key.column, f"'<<' takes a map, got {describe(source)}")
        for name, node in source.entries.items():
            if name not in target.entries:  # what is written in the map itself wins, then the earlier source
                target.entries[name] = node
                target.keys[name] = source.keys[name]


def _key_name(key: Scalar) -> str:
    if isinstance(key.value, str):
        return key.value
    raise SourceSyntaxError(
        key.line, key.column, f"expected text as a key, got {describe(key)}", "put it in quotes"
    )


def _scalar(event: Any) -> Scalar:
    text: str = event.value
    mark = event.start_mark
    line, column = mark.line + 1, mark.column + 1
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise SourceSyntaxError(line, column, "half of a surrogate pair is not a character")
    tag = event.tag
    if tag is not None and tag != "!":
        return _tagged(event, Scalar(text, text, line, column))
    if event.style is not None or tag == "!":
        return Scalar(text, text, line, column)
    return Scalar(_resolve(text), text, line, column)


def _resolve(text: str) -> Primitive:
    """The value of a plain scalar by the core schema (YAML 1.2.2, chapter 10.3.2)."""
    first = text[:1]
    if first in "-+.0123456789":
        if not first:
            return None
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _OCTAL.fullmatch(text):
            return int(text, 8)
        if _HEX.fullmatch(text):
            return int(text, 16)
        if match := _INFINITE.fullmatch(text):
            return float(f"{match[1]}inf")
        return float("nan") if text in _NAN else text
    if text in _WORDS:
        return _WORDS[text]
    return _MergeKey(text) if text == "<<" else text


def _tagged(event: Any, scalar: Scalar) -> Scalar:
    name = event.tag.removeprefix(_TAG_PREFIX)
    if name == event.tag or name not in _SCALAR_TAGS:
        raise _bad_tag(event, scalar)
    if name == "str":
        return scalar
    value = _resolve(scalar.text)
    if name == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
    if type(value) is not kinds[name]:
        message = f"{scalar.text[:60]!r} is not of the type that its tag !!{name} says"
        raise SourceSyntaxError(scalar.line, scalar.column, message)
    scalar.value = value
    return scalar


def _bad_tag(event: Any, node: Node) -> SourceSyntaxError:
    tag = str(event.tag)
    shown = "!!" + tag.removeprefix(_TAG_PREFIX) if tag.startswith(_TAG_PREFIX) else tag
    return SourceSyntaxError(
        node.line, node.column, f"the tag {shown[:60]!r} is not supported here", "remove it"
    )


def _too_deep(node: Node) -> SourceSyntaxError:
    return SourceSyntaxError(node.line, node.column, f"nested deeper than {MAX_DEPTH} levels")


def _place(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _one_line(words: str) -> str:
    return " ".join(words.split())[:200]


def _hint(words: str) -> str | None:
    if "\\t" in words or "'\t'" in words:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in words:
        return "a text with ': ' in it needs quotes; or check the indentation"
    if "could not find expected ':'" in words or "block end" in words:
        return "check the indentation, and that each key ends with ':'"
    return None
