"""``{name}`` and ``{name:format}`` tokens of parameterised jobs and files."""

from __future__ import annotations

import functools
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
    slots = [
        (names.index(name), formatter(spec)) for name, spec in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    if len(slots) == 1:  # by far the most frequent
        (index, show), (before, after) = slots[0], literals
        return lambda values: f"{before}{show(values[index])}{after}"

    def render(values: Sequence[Value]) -> str:
        parts = [literals[0]]
        for (index, show), literal in zip(slots, literals[1:], strict=True):
            parts += (show(values[index]), literal)
        return "".join(parts)

    return render


@functools.cache
def formatter(spec: str | None) -> Callable[[Value], str]:
    """What prints a value in the format of its token.

    ``03d`` pads whole numbers, ``.2f`` fixes the decimals of numbers; any other format prints plainly.
    """
    if spec and (match := _PADDED.fullmatch(spec)):
        pad = f"{{:0{int(match[1])}d}}".format
        return lambda value: pad(value) if type(value) is int else plain(value)
    if spec and (match := _FIXED.fullmatch(spec)):
        fix = f"{{:.{int(match[1])}f}}".format
        return lambda value: value if isinstance(value, str) else fix(value)
    return plain


def plain(value: Value) -> str:
    """The shortest text that reads back as the same number, never in exponent form: 1, 0.5, 0.0000001."""
    if type(value) is not float:
        return str(value)
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
