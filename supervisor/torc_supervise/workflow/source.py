"""Reading a workflow file: bytes, encoding, format."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from torc_supervise.workflow.json_nodes import parse_json, parse_json5, starts_with_bracket
from torc_supervise.workflow.nodes import Mapping, Node, SourceSyntaxError, describe
from torc_supervise.workflow.problems import Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 256 << 20
STDIN = "<stdin>"

_UTF16_OR_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Control characters that no text file has; YAML and JSON both refuse them, but with worse words.
_BINARY = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]")


class Source(Struct, frozen=True):
    """A file's text: ``name`` for messages, ``path`` absolute (None for standard input)."""

    name: str
    path: str | None
    text: str


def read_source(source: str | Path, stdin: BinaryIO | None = None) -> Source:
    """The text of a workflow file.

    Args:
        source: a path, or ``-`` for standard input.
        stdin: read instead of the process's own standard input.

    Raises:
        SpecError: missing, unreadable, a directory, too large, not UTF-8.
    """
    if str(source) == "-":
        try:
            raw = (stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
        except (AttributeError, OSError, ValueError) as error:  # closed, or a directory
            raise _refusal(STDIN, "standard input cannot be read", "give the path of a file") from error
        return Source(STDIN, None, _decode(raw, STDIN))
    name = str(source)
    try:
        with open(source, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _refusal(name, *_explain_os_error(error)) from error
    return Source(name, os.path.abspath(source), _decode(raw, name))


def parse_source(source: Source) -> Mapping:
    """The node tree of a file, in the format that its name tells.

    Where the name does not, a text that starts with a bracket is JSON5 (which contains JSON), any other YAML.

    Raises:
        SpecError: a syntax error, an empty file, a format that we do not read, or no map at the top.
    """
    if not source.text.strip():
        raise _refusal(source.name, "the file is empty", "a workflow needs at least 'name' and 'jobs'")
    suffix = os.path.splitext(source.name)[1].lower() if source.path else ""
    if suffix == ".kdl":
        raise _refusal(source.name, "KDL is not supported", "write the workflow as YAML, JSON or JSON5")
    parsers: dict[str, Callable[[str], Node]] = {
        ".json": parse_json, ".json5": parse_json5, ".yaml": _parse_yaml, ".yml": _parse_yaml,
    }  # fmt: skip
    told = suffix in parsers
    if not told:
        suffix = ".json5" if starts_with_bracket(source.text) else ".yaml"
    try:
        root = parsers[suffix](source.text)
    except SourceSyntaxError as error:
        kind = suffix[1:].upper()
        message = error.message if told or kind in error.message else f"read as {kind}: {error.message}"
        raise SpecError([Problem(source.name, error.line, error.column, "", message, error.hint)]) from error
    if not isinstance(root, Mapping):
        message = f"expected a map with 'name' and 'jobs' at the top, got {describe(root)}"
        raise SpecError([Problem(source.name, root.line, root.column, "", message)])
    return root


def _parse_yaml(text: str) -> Node:
    # Imported here: a JSON file does not pay for loading the YAML library.
    from torc_supervise.workflow.yaml_nodes import parse_yaml

    return parse_yaml(text)


def _decode(raw: bytes, name: str) -> str:
    if len(raw) > MAX_BYTES:
        raise _refusal(name, f"the file is larger than {MAX_BYTES >> 20} MiB", "is it a workflow file?")
    if raw.startswith(_UTF16_OR_32):
        raise _refusal(name, "the file is UTF-16 or UTF-32 text", "save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from after the byte order mark.
        byte = error.start + (3 if raw.startswith(codecs.BOM_UTF8) else 0)
        line = raw.count(b"\n", 0, byte) + 1
        before = raw[raw.rfind(b"\n", 0, byte) + 1 : byte].removeprefix(codecs.BOM_UTF8)
        column = len(before.decode("utf-8", "replace")) + 1
        message = f"byte {byte + 1} (0x{raw[byte]:02x}) is not UTF-8"
        raise SpecError([Problem(name, line, column, "", message, "save the file as UTF-8 text")]) from error
    if match := _BINARY.search(text):
        before_match = text[: match.start()]
        line, column = before_match.count("\n") + 1, match.start() - before_match.rfind("\n")
        message = f"the control character 0x{ord(match[0]):02x} has no place in a text file"
        raise SpecError([Problem(name, line, column, "", message, "is it a binary file?")])
    return text


def _explain_os_error(error: OSError | ValueError) -> tuple[str, str | None]:
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "check the path"
    if isinstance(error, IsADirectoryError):
        return "is a directory", "give the workflow file in it"
    if isinstance(error, PermissionError):
        return "you may not read the file", "ask its owner, or see chmod(1)"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}", None
    return "is not a file name", None  # a NUL byte in it


def _refusal(name: str, message: str, hint: str | None = None) -> SpecError:
    return SpecError([Problem(name, 0, 0, "", message, hint)])
