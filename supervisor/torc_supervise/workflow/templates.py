"""``{name}`` and ``{name:format}`` tokens of parameterised jobs and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from torc_supervise.workflow.parameters import Value

Render = Callable[[Sequence[Value]], str]

_PADDED = re.compile(r"0([0-9]{1,2})d", re.ASCII)
_FIXED = re.compile(r"\.([0-9]{1,2})f", re.ASCII)
# What looks like a format at all.  {i:3d} prints the plain number, as in Torc; {i:anything else} is not a token.
_FORMAT = r"[0-9]{0,2}(?:\.[0-9]{1,2})?[dfeg]?"


def token_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Matches every token of these parameters: group 1 is the name, group 2 the format or None."""
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"\{{({alternatives})(?::({_FORMAT}))?\}}", re.ASCII)


def compile_template(text: str, names: Sequence[str], tokens: re.Pattern[str]) -> Render | None:
    """A function from parameter values to the text with every token replaced.

    Args:
        text: the template.
        names: the parameters, in the order in which their values will be given.
        tokens: :func:`token_pattern` of the same names.

    Returns:
        None where the text has no token, so that callers can share one text among all jobs.
    """
    pieces = tokens.split(text)
    if len(pieces) == 1:
        return None
    literals = pieces[0::3]
    slots = [(names.index(name), spec) for name, spec in zip(pieces[1::3], pieces[2::3], strict=True)]

    def render(values: Sequence[Value]) -> str:
        parts = [literals[0]]
        for (index, spec), literal in zip(slots, literals[1:], strict=True):
            value = values[index]
            parts.append(format_value(value, spec) if spec or type(value) is float else str(value))
            parts.append(literal)
        return "".join(parts)

    return render


def format_value(value: Value, spec: str | None) -> str:
    """A value in the format of its token: ``03d`` pads whole numbers, ``.2f`` fixes decimals, the rest is plain."""
    if isinstance(value, str):
        return value
    if spec and isinstance(value, int) and (match := _PADDED.fullmatch(spec)):
        return f"{value:0{int(match[1])}d}"
    if spec and (match := _FIXED.fullmatch(spec)):
        return f"{value:.{int(match[1])}f}"
    return format_number(value)


def format_number(value: int | float) -> str:
    """The shortest text that reads back as the same number, never in exponent form: 1, 0.5, 0.0000001."""
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
