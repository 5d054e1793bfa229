"""Lengths of time: ISO 8601 durations, and every form that the command line accepts."""

from __future__ import annotations

import math
import re

from torc_supervise.workflow.walltime import parse_walltime

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY
YEAR = 365.25 * DAY
MONTH = YEAR / 12
MAX_SECONDS = 1000 * YEAR

PATTERN = r"^\s*[Pp][0-9YMWDTHSymwdths.,]+\s*$"

_FIGURE = r"([0-9]+(?:[.,][0-9]+)?)"
_ISO = re.compile(
    rf"P(?:{_FIGURE}Y)?(?:{_FIGURE}M)?(?:{_FIGURE}W)?(?:{_FIGURE}D)?"
    rf"(T(?:{_FIGURE}H)?(?:{_FIGURE}M)?(?:{_FIGURE}S)?)?",
    re.ASCII,
)
_SHORT = re.compile(
    r"(?:([0-9.]+)\s*d)?\s*(?:([0-9.]+)\s*h)?\s*(?:([0-9.]+)\s*m(?:in)?)?\s*(?:([0-9.]+)\s*s)?", re.ASCII
)


def parse_duration(text: str) -> float:
    """Seconds of an ISO 8601 duration such as ``PT2H30M``, ``P1DT12H`` or ``P1W``.

    A year is 365.25 days and a month a twelfth of it, as in Torc.

    Raises:
        ValueError: not a duration, empty, or longer than a thousand years.
    """
    upper = text.strip().upper()
    if not upper:
        raise ValueError("a duration cannot be empty; write for example PT1H30M")
    match = _ISO.fullmatch(upper) if len(upper) <= 100 else None
    if match is None or upper == "P" or match[5] == "T":
        raise ValueError(
            f"{text.strip()[:40]!r} is not an ISO 8601 duration; write for example PT30M, PT2H or P1DT12H"
        )
    years, months, weeks, days, _, hours, minutes, seconds = (
        float(part.replace(",", ".")) if part and part[0] != "T" else 0.0 for part in match.groups()
    )
    total = years * YEAR + months * MONTH + weeks * WEEK + days * DAY
    return _bounded(total + hours * HOUR + minutes * MINUTE + seconds, text)


def parse_time_limit(text: str) -> float:
    """Seconds of a time limit in any form that people write.

    Args:
        text: ISO 8601 (``PT1H30M``), Slurm (``90``: minutes, ``1:30:00``, ``1-12``) or ``90s``, ``10m``,
            ``1h30m``, ``2d``.

    Raises:
        ValueError: none of these.
    """
    stripped = text.strip()
    if stripped[:1] in ("P", "p"):
        return parse_duration(stripped)
    match = _SHORT.fullmatch(stripped.lower()) if len(stripped) <= 100 else None
    if match and any(match.groups()):
        try:
            days, hours, minutes, seconds = (float(part) if part else 0.0 for part in match.groups())
        except ValueError:
            raise ValueError(
                f"{stripped[:40]!r} is not a time limit; write for example 90s or 1h30m"
            ) from None
        return _bounded(days * DAY + hours * HOUR + minutes * MINUTE + seconds, text)
    try:
        return parse_walltime(stripped)
    except ValueError:
        raise ValueError(
            f"{stripped[:40]!r} is not a time limit; write for example 90s, 1h30m, PT1H30M or 01:30:00"
        ) from None


def _bounded(seconds: float, text: str) -> float:
    if not math.isfinite(seconds) or seconds > MAX_SECONDS:
        raise ValueError(f"{text.strip()[:40]!r} is longer than a thousand years")
    return seconds
