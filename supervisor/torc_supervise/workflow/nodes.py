"""The tree that every file format becomes: plain values that remember where they were written."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

MAX_DEPTH = 100  # levels of lists and maps; deeper files are refused before they exhaust our own stack

Primitive: TypeAlias = "bool | int | float | str | None"


class Node:
    """A value and the place of its first character; ``line`` and ``column`` count from 1."""

    __slots__ = ("column", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column


class Scalar(Node):
    """A value without parts.  ``text`` is how it was written: ``1.10`` is the number 1.1 and the text "1.10"."""

    __slots__ = ("text", "value")

    def __init__(self, value: Primitive, text: str, line: int, column: int) -> None:
        super().__init__(line, column)
        self.value = value
        self.text = text


class Sequence(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, line: int, column: int) -> None:
        super().__init__(line, column)
        self.items: list[Node] = []


class Mapping(Node):
    """A map in file order; ``keys`` has the place of each key, ``repeated`` the keys that were given again."""

    __slots__ = ("entries", "keys", "repeated")

    def __init__(self, line: int, column: int) -> None:
        super().__init__(line, column)
        self.entries: dict[str, Node] = {}
        self.keys: dict[str, Node] = {}
        self.repeated: list[tuple[str, Node]] = []

    def add(self, name: str, key: Node, value: Node) -> None:
        """Append one entry; of a repeated key the first stays and the second is remembered as a mistake."""
        if name in self.entries:
            self.repeated.append((name, key))
            return
        self.entries[name] = value
        self.keys[name] = key


class SourceSyntaxError(Exception):
    """The text is not of its format: what is wrong, at a line and column counted from 1, and the way out."""

    def __init__(self, line: int, column: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint


def is_null(node: Node) -> bool:
    """Whether the value is an explicit null."""
    return isinstance(node, Scalar) and node.value is None


def child(node: Node, *steps: str | int) -> Node:
    """The part at the end of ``steps``, or the last part on the way there that exists."""
    for step in steps:
        if isinstance(step, int) and isinstance(node, Sequence) and step < len(node.items):
            node = node.items[step]
        elif isinstance(step, str) and isinstance(node, Mapping) and step in node.entries:
            node = node.entries[step]
        else:
            break
    return node


def to_plain(node: Node, *, keep_null: bool = True) -> Any:
    """The value without its places, as ``json.loads`` would give it.

    Args:
        node: the value.
        keep_null: False leaves out the keys of maps whose value is null.
    """
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_plain(item, keep_null=keep_null) for item in node.items]
    assert isinstance(node, Mapping)
    return {
        name: to_plain(value, keep_null=keep_null)
        for name, value in node.entries.items()
        if keep_null or not is_null(value)
    }


def describe(node: Node) -> str:
    """The value in words, for "expected ..., got ..."."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a map"
    assert isinstance(node, Scalar)
    value = node.value
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return f"the text {text!r}"
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return f"the number {node.text[:60]}"
    return f"the {'whole ' if isinstance(value, int) else ''}number {node.text[:60]}"
