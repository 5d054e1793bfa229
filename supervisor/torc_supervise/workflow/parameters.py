"""Parameter values: ranges, lists, and how several parameters combine."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from collections.abc import Sequence as SequenceType
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence, describe
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.shapes import INVALID, Schema, Shape

Value: TypeAlias = int | float | str
Values: TypeAlias = SequenceType[Value]
Mode = Literal["product", "zip"]

MAX_COMBINATIONS = 1_000_000

_INT = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NAME = re.compile(r"[^{}:\s\x00-\x1f]+")
_TOLERANCE = Decimal("1e-10")  # of a step: how far a float range may overshoot its end
_RANGE_FORMS = "'start:end' or 'start:end:step'"


def parse_parameter(text: str) -> Values:
    """The values of a parameter written as text.

    Args:
        text: a range ``1:10``, ``0:100:5``, ``0.0:1.0:0.1`` (both ends included, a negative step counts down),
            a list ``[a, 'b', 3]``, or one value.

    Returns:
        A ``range`` for whole numbers, a tuple for the rest; perhaps empty.

    Raises:
        ValueError: a malformed range, a step of zero, more than a million values.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}") and "," not in text:
        text = text[1:-1].strip()
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return tuple(_item(part.strip()) for part in inner.split(",")) if inner else ()
    if ":" in text:
        return _range(text)
    return (_item(text),)


def _item(text: str) -> Value:
    number = _number(text)
    if number is not None:
        return number
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _number(text: str) -> int | float | None:
    if _INT.fullmatch(text) and -(1 << 63) <= (number := int(text)) < 1 << 63:
        return number
    if len(text) <= 400 and _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return None


def _range(text: str) -> Values:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) not in (2, 3):
        raise ValueError(
            f"invalid range {quoted(text)}: expected {_RANGE_FORMS}; a single text with ':' goes into a list, ['...']"
        )
    numbers = [_number(part) for part in parts]
    start, end = numbers[:2]
    if start is None or end is None:
        raise ValueError(
            f"invalid range {quoted(text)}: its ends must be numbers; a single text with ':' goes into a list, ['...']"
        )
    step = numbers[2] if len(parts) == 3 else 1
    if isinstance(start, int) and isinstance(end, int):
        if not isinstance(step, int):
            raise ValueError(
                f"invalid step {quoted(parts[2])} in the range {quoted(text)}: with whole ends it must be whole;"
                f" write {start}.0:{end}.0:{parts[2]} for decimals"
            )
        return _whole_range(start, end, step, text)
    if step is None:
        raise ValueError(f"invalid step {quoted(parts[2])} in the range {quoted(text)}: it must be a number")
    decimals = [Decimal(part) for part in (*parts, "1")]
    return _decimal_range(decimals[0], decimals[1], decimals[2], text)


def _whole_range(start: int, end: int, step: int, text: str) -> Values:
    if step == 0:
        raise ValueError(f"the step of the range {quoted(text)} is zero")
    count = _limited((end - start) // step + 1, text)
    return range(start, start + count * step, step)


def _decimal_range(start: Decimal, end: Decimal, step: Decimal, text: str) -> Values:
    """start + k * step in decimal arithmetic, so that 0.0:1.0:0.1 gives 0.3 and not 0.30000000000000004."""
    if step == 0:
        raise ValueError(f"the step of the range {quoted(text)} is zero")
    try:
        steps = (end - start) / step + _TOLERANCE
        count = _limited(math.floor(steps) + 1 if abs(steps) < 1e15 else int(1e15 if steps > 0 else 0), text)
    except (InvalidOperation, ArithmeticError):
        raise ValueError(f"the range {quoted(text)} cannot be counted") from None
    return tuple(float(start + k * step) for k in range(count))


def _limited(count: int, text: str) -> int:
    if count > MAX_COMBINATIONS:
        raise ValueError(
            f"the range {quoted(text)} has {count:,} values; at most {MAX_COMBINATIONS:,} are allowed"
        )
    return max(count, 0)


class ParameterValues(Shape):
    """The values of one parameter: text as :func:`parse_parameter` takes it, a number, or a list of them."""

    placeholder = ()

    def read(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node, Sequence):
            values = [self._item(item, f"{path}[{index}]", report) for index, item in enumerate(node.items)]
            return INVALID if any(value is INVALID for value in values) else tuple(values)
        if not isinstance(node, Scalar) or node.value is None:
            report.error(node, path, f"expected a value, a range or a list, got {describe(node)}")
            return INVALID
        if not isinstance(node.value, str):
            value = self._item(node, path, report)
            return value if value is INVALID else (value,)
        if any(character < " " for character in node.value.strip()):
            report.error(node, path, "a control character is not allowed in a parameter")
            return INVALID
        try:
            return parse_parameter(node.value)
        except ValueError as error:
            report.error(node, path, str(error))
            return INVALID

    def _item(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node, Mapping | Sequence) or (isinstance(node, Scalar) and node.value is None):
            report.error(node, path, f"expected a number or text, got {describe(node)}")
            return INVALID
        assert isinstance(node, Scalar)
        if isinstance(node.value, bool):
            return node.text
        if isinstance(node.value, float) and not math.isfinite(node.value):
            report.error(node, path, "expected a finite number")
            return INVALID
        if isinstance(node.value, str) and any(character < " " for character in node.value):
            report.error(node, path, "a control character is not allowed in a parameter")
            return INVALID
        return node.value

    def schema(self) -> Schema:
        scalar = {"type": ["string", "number", "boolean"]}
        return {"anyOf": [scalar, {"type": "array", "items": scalar}], "examples": ["1:100", "[a, b, c]"]}


def refuse_parameter_name(name: str) -> str | None:
    """Why a parameter cannot have this name; None where it can."""
    if _NAME.fullmatch(name):
        return None
    return f"{quoted(name)} cannot be a parameter's name: no spaces, braces or colons"


def count_combinations(parameters: MappingType[str, Values], mode: Mode) -> int:
    """How many jobs the parameters make, without making them.

    Raises:
        ValueError: ``zip`` with parameters of different lengths.
    """
    if mode == "product":
        return math.prod(len(values) for values in parameters.values())
    (first, values), *rest = parameters.items()
    for name, others in rest:
        if len(others) != len(values):
            raise ValueError(
                "All parameters must have the same number of values when using 'zip' mode. "
                f"Parameter '{first}' has {len(values)} values, but '{name}' has {len(others)} values."
            )
    return len(values)


def combinations(parameters: MappingType[str, Values], mode: Mode) -> Iterator[tuple[Value, ...]]:
    """The value of every parameter for each job; in file order, the last parameter varying fastest."""
    if mode == "product":
        return itertools.product(*parameters.values())
    return zip(*parameters.values(), strict=True)
