"""What a field may hold: each shape reads a node, reports in our words what is wrong, and describes itself.

A shape's ``read`` never raises.  It gives the value, or :data:`INVALID` after it has put at least one error into
the report, so that one pass finds every mistake of a file.  ``schema`` gives the same rule as JSON Schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from typing import Any, Final

from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence, describe, is_null, to_plain
from torc_supervise.workflow.problems import did_you_mean, one_of, quoted
from torc_supervise.workflow.report import Report

INVALID: Final = object()

Schema = dict[str, Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Shape:
    """Base of all shapes.  ``placeholder`` stands in for a required value that is missing or invalid."""

    placeholder: Any = None

    def read(self, node: Node, path: str, report: Report) -> Any:
        """The value of ``node``, or INVALID; ``path`` is the field's, for messages."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """The JSON Schema of this shape."""
        raise NotImplementedError


class Text(Shape):
    """Text without NUL bytes, which no command line, path or environment can hold."""

    placeholder = ""

    def __init__(self, what: str = "text", *, empty: bool = False) -> None:
        self.what = what
        self.empty = empty

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            hint = "put it in quotes" if isinstance(node, Scalar) and node.value is not None else None
            report.error(node, path, f"expected {self.what}, got {describe(node)}", hint)
            return INVALID
        problem = self.refuse(node.value)
        if problem is None:
            return node.value
        report.error(node, path, problem)
        return INVALID

    def refuse(self, text: str) -> str | None:
        """Why the text is not acceptable; None where it is."""
        if not self.empty and not text.strip():
            return f"expected {self.what}, got empty text"
        return "a NUL byte is not allowed here" if "\0" in text else None

    def schema(self) -> Schema:
        return {"type": "string"} if self.empty else {"type": "string", "minLength": 1}


class Line(Text):
    """Text that appears in output lines or scripts: no control characters, so no line breaks either."""

    def refuse(self, text: str) -> str | None:
        if match := _CONTROL.search(text):
            return f"the control character {match[0]!r} is not allowed in {self.what}"
        return super().refuse(text)


class Whole(Shape):
    """A whole number between two bounds."""

    placeholder = 0

    def __init__(self, least: int = 0, most: int = (1 << 53) - 1) -> None:
        self.least = least
        self.most = most

    def read(self, node: Node, path: str, report: Report) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            report.error(node, path, f"expected a whole number, got {describe(node)}")
        elif value < self.least:
            report.error(
                node, path, f"must be at least {self.least}, got {value if value > -1e18 else 'less'}"
            )
        elif value > self.most:
            report.error(node, path, f"must be at most {self.most}, got {value if value < 1e18 else 'more'}")
        else:
            return value
        return INVALID

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Number(Shape):
    """A finite number, as float, of at least ``least`` (or above it)."""

    placeholder = 0.0

    def __init__(self, least: float = 0.0, *, above: bool = False, most: float = 1e9) -> None:
        self.least = least
        self.above = above
        self.most = most

    def read(self, node: Node, path: str, report: Report) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            report.error(node, path, f"expected a number, got {describe(node)}")
        elif isinstance(value, float) and not math.isfinite(value):
            report.error(node, path, "expected a finite number")
        elif value < self.least or (self.above and value == self.least):
            limit = f"{'more than' if self.above else 'at least'} {self.least:g}"
            report.error(
                node, path, f"must be {limit}, got {node.text[:40] if isinstance(node, Scalar) else value}"
            )
        elif value > self.most:
            report.error(node, path, f"must be at most {self.most:.0f}")
        else:
            return float(value)
        return INVALID

    def schema(self) -> Schema:
        return {"type": "number", "exclusiveMinimum" if self.above else "minimum": self.least}


class Flag(Shape):
    """true or false, and nothing that merely looks like it."""

    placeholder = False

    def read(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        words = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
        word = (
            words.get(node.value.lower())
            if isinstance(node, Scalar) and isinstance(node.value, str)
            else None
        )
        hint = f"write {word}" if word else None
        report.error(node, path, f"expected true or false, got {describe(node)}", hint)
        return INVALID

    def schema(self) -> Schema:
        return {"type": "boolean"}


class Choice(Shape):
    """One of a few words."""

    placeholder = ""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def read(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            if node.value in self.choices:
                return node.value
            hint = did_you_mean(node.value, self.choices)
            report.error(node, path, f"expected {one_of(self.choices)}, got {describe(node)}", hint)
        else:
            report.error(node, path, f"expected {one_of(self.choices)}, got {describe(node)}")
        return INVALID

    def schema(self) -> Schema:
        return {"enum": list(self.choices)}


class Parsed(Shape):
    """Text of a small language of its own: a memory size, a duration, a signal.

    Args:
        parse: gives the value, raises ValueError with the reason and the way out.
        what: the noun for messages.
        example: one correct value.
        pattern: a regular expression for editors, looser than ``parse`` if need be.
        numbers: whether a bare whole number is taken as its text.
    """

    def __init__(
        self,
        parse: Callable[[str], Any],
        what: str,
        example: str,
        *,
        pattern: str = "",
        numbers: bool = False,
    ) -> None:
        self.parse = parse
        self.what = what
        self.example = example
        self.pattern = pattern
        self.numbers = numbers

    def read(self, node: Node, path: str, report: Report) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if self.numbers and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            hint = f"write for example {quoted(self.example)}, in quotes"
            report.error(node, path, f"expected {self.what}, got {describe(node)}", hint)
            return INVALID
        try:
            return self.parse(value)
        except ValueError as error:
            report.error(node, path, str(error))
            return INVALID

    def schema(self) -> Schema:
        schema: Schema = {
            "type": ["string", "integer"] if self.numbers else "string",
            "examples": [self.example],
        }
        return schema | ({"pattern": self.pattern} if self.pattern else {})


class ListOf(Shape):
    """A list whose items are all of one shape.  One bad item makes the whole list INVALID.

    Records are the exception (``keep`` is true): the good ones stay, to be checked further.
    """

    placeholder = ()

    def __init__(self, item: Shape, *, keep: bool = False, unique: bool = False) -> None:
        self.item = item
        self.keep = keep
        self.unique = unique

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Sequence):
            hint = (
                "write it in brackets: [...]" if isinstance(node, Scalar) and node.value is not None else None
            )
            report.error(node, path, f"expected a list, got {describe(node)}", hint)
            return INVALID
        values = [self.item.read(item, f"{path}[{index}]", report) for index, item in enumerate(node.items)]
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


def present(node: Node, key: str) -> bool:
    """Whether a map has ``key`` with a value other than null."""
    return isinstance(node, Mapping) and key in node.entries and not is_null(node.entries[key])
