"""Measure: something that is measured of several subjects, in turn, so that a drifting machine cancels out."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

Values = dict[str, float]
Once = Callable[[Path], Values]
"""Measures once, in an empty directory; figure -> value."""


@dataclass(frozen=True)
class Measure:
    """``subjects``: who can do this, by name; None for one that is not installed here.  ``unit`` of all figures."""

    name: str
    what: str
    unit: str
    subjects: dict[str, Once | None]
    repeat: int = 5
    better: str = "less"  # or "more"
    targets: dict[str, str] = field(default_factory=dict)  # figure -> what it has to reach, in words


def run(
    measure: Measure, only: Iterable[str] | None, repeat: int | None, say: Callable[[str], None]
) -> dict[str, object]:
    """A B C A B C ...; returns subject -> figure -> {median, low, high, values}."""
    wanted = {name: once for name, once in measure.subjects.items() if only is None or name in only}
    missing = [name for name, once in wanted.items() if once is None]
    present = {name: once for name, once in wanted.items() if once is not None}
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in present}
    for turn in range(repeat or measure.repeat):
        for name, once in present.items():
            with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
                values = once(Path(scratch))
            for figure, value in values.items():
                seen[name].setdefault(figure, []).append(value)
            shown = ", ".join(f"{figure} {value:.4g}" for figure, value in values.items())
            say(f"{measure.name} [{turn + 1}] {name}: {shown}")
    return {
        "what": measure.what,
        "unit": measure.unit,
        "better": measure.better,
        "targets": measure.targets,
        "not_installed": missing,
        "subjects": {name: {f: _summary(v) for f, v in figures.items()} for name, figures in seen.items()},
    }


def _summary(values: list[float]) -> dict[str, object]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "values": values,
    }
