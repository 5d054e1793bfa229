"""Shapes of lists, of maps with names of the author's choice, and of free JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from typing import Any, Final

from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence, describe, to_plain
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.shapes import INVALID, Schema, Shape


class _Hole(str):
    """The place of an item of a list of texts that could not be read."""


HOLE: Final = _Hole()


class ListOf(Shape):
    """A list whose items are all of one shape.  One bad item makes the whole list INVALID.

    There are two exceptions, so that the good items can be checked further: with ``keep`` the bad ones are left out,
    with ``holes`` each of them becomes :data:`HOLE`, and the others keep their numbers.
    """

    placeholder = ()

    def __init__(self, item: Shape, *, keep: bool = False, holes: bool = False) -> None:
        self.item = item
        self.keep = keep
        self.holes = holes

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Sequence):
            hint = (
                "write it in brackets: [...]" if isinstance(node, Scalar) and node.value is not None else None
            )
            report.error(node, path, f"expected a list, got {describe(node)}", hint)
            return INVALID
        values = [self.item.read(item, f"{path}[{index}]", report) for index, item in enumerate(node.items)]
        if self.holes:
            return tuple(HOLE if value is INVALID else value for value in values)
        good = [value for value in values if value is not INVALID]
        if len(good) < len(values) and not self.keep:
            return INVALID
        return tuple(good)

    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema()}


class MapOf(Shape):
    """A map from names of the author's choice to values of one shape.

    Args:
        value: shape of each value.
        refuse_key: why a key is not acceptable, or None.
    """

    placeholder: MappingType[str, Any] = {}

    def __init__(self, value: Shape, refuse_key: Callable[[str], str | None] = lambda key: None) -> None:
        self.value = value
        self.refuse_key = refuse_key

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.error(node, path, f"expected a map, got {describe(node)}")
            return INVALID
        report_repeated(node, path, report)
        values: dict[str, Any] = {}
        valid = True
        for key, item in node.entries.items():
            if problem := self.refuse_key(key):
                report.error(node.keys[key], join(path, key), problem)
                valid = False
                continue
            values[key] = self.value.read(item, join(path, key), report)
            valid = valid and values[key] is not INVALID
        return values if valid else INVALID

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.value.schema()}


class Json(Shape):
    """Any value that JSON can hold."""

    def read(self, node: Node, path: str, report: Report) -> Any:
        before = len(report.errors)
        self._check(node, path, report)
        return to_plain(node) if len(report.errors) == before else INVALID

    def _check(self, node: Node, path: str, report: Report) -> None:
        if isinstance(node, Mapping):
            report_repeated(node, path, report)
            for key, value in node.entries.items():
                self._check(value, join(path, key), report)
        elif isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                self._check(item, f"{path}[{index}]", report)
        elif isinstance(node, Scalar) and isinstance(node.value, float) and not math.isfinite(node.value):
            report.error(node, path, "JSON has no such number", "write it as text, in quotes")
        elif (
            isinstance(node, Scalar)
            and isinstance(node.value, int)
            and not -(1 << 63) <= node.value < 1 << 64
        ):
            report.error(node, path, "the number does not fit in 64 bits", "write it as text, in quotes")

    def schema(self) -> Schema:
        return {}


class Either(Shape):
    """One shape for scalars, another for maps."""

    def __init__(self, scalar: Shape, mapping: Shape, what: str) -> None:
        self.scalar = scalar
        self.mapping = mapping
        self.what = what

    def read(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node, Mapping):
            return self.mapping.read(node, path, report)
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return self.scalar.read(node, path, report)
        report.error(node, path, f"expected {self.what}, got {describe(node)}")
        return INVALID

    def schema(self) -> Schema:
        return {"anyOf": [self.scalar.schema(), self.mapping.schema()]}


def join(path: str, key: str) -> str:
    """The path of a map's entry."""
    shown = key if key.isprintable() and len(key) <= 60 else quoted(key)
    return f"{path}.{shown}" if path else shown


def report_repeated(node: Mapping, path: str, report: Report) -> None:
    """Report the keys that a map gives more than once."""
    for name, key in node.repeated:
        first = node.keys[name]
        message = f"the key {quoted(name)} is given twice, first on line {first.line}"
        report.error(key, join(path, name), message, "remove one of them")
