"""Slurm's way to write a time limit (``sbatch --time``)."""

from __future__ import annotations

import re

PATTERN = r"^\s*([0-9]+|[0-9]+:[0-9]+|[0-9]+:[0-9]+:[0-9]+|[0-9]+-[0-9]+(:[0-9]+(:[0-9]+)?)?)\s*$"

_DAYS_FORM = re.compile(r"([0-9]+)-([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", re.ASCII)
_PLAIN_FORM = re.compile(r"([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", re.ASCII)
_FORMS = "MINUTES, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


def parse_walltime(text: str) -> float:
    """Seconds of a Slurm time limit.

    Slurm reads a bare number as minutes and two numbers as minutes:seconds, unlike Torc's own reader
    (hours and hours:minutes).  What Slurm enforces counts.

    Args:
        text: ``30``, ``30:00``, ``04:00:00``, ``1-12``, ``1-12:30`` or ``1-12:30:00``.

    Raises:
        ValueError: none of these forms, or zero, which Slurm takes for "no limit".
    """
    stripped = text.strip()
    if len(stripped) > 40:
        raise ValueError(f"{stripped[:40] + '...'!r} is not a Slurm time; write {_FORMS}")
    if match := _DAYS_FORM.fullmatch(stripped):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    elif match := _PLAIN_FORM.fullmatch(stripped):
        first, second, third = match.groups()
        days = 0
        if third is None:
            hours, minutes, seconds = 0, int(first), int(second or 0)
        else:
            hours, minutes, seconds = int(first), int(second), int(third)
    else:
        raise ValueError(f"{stripped!r} is not a Slurm time; write {_FORMS}, for example 04:00:00")
    total = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if not total:
        raise ValueError(f"{stripped!r} is no time at all; Slurm would take it for no limit")
    if total > 1000 * 366 * 86400.0:
        raise ValueError(f"{stripped!r} is longer than a thousand years")
    return total
