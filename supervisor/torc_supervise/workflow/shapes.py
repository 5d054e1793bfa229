"""What a field may hold: each shape reads a node, reports in our words what is wrong, and describes itself.

A shape's ``read`` never raises.  It gives the value, or :data:`INVALID` after it has put at least one error into
the report, so that one pass finds every mistake of a file.  ``schema`` gives the same rule as JSON Schema.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from torc_supervise.workflow.nodes import Node, Scalar, describe
from torc_supervise.workflow.problems import did_you_mean, one_of, quoted
from torc_supervise.workflow.report import Report

INVALID: Final = object()

Schema = dict[str, Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Shape(ABC):
    """Base of all shapes.  ``placeholder`` stands in for a required value that is missing or invalid."""

    placeholder: Any = None

    @abstractmethod
    def read(self, node: Node, path: str, report: Report) -> Any:
        """The value of ``node``, or INVALID; ``path`` is the field's, for messages."""

    @abstractmethod
    def schema(self) -> Schema:
        """The JSON Schema of this shape."""


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
