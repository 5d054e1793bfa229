"""Measure: something that is measured of several subjects, in turn, so that a drifting machine cancels out."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

Values = dict[str, float]
Once = Callable[[Path], Values]
"""Measures once, in an empty directory; figure -> value."""


@dataclass(frozen=True)
class Target:
    """What ours has to reach: ``figure`` at most (or at least) ``factor`` times what ``of`` has in the same run.

    ``of``: another subject; "ours" for ours in another ``measure``; empty where ``factor`` is the limit itself.
    """

    figure: str
    factor: float
    of: str = ""
    measure: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Measure:
    """``subjects``: who can do this, by name; None for one that is not installed here.  ``unit`` of all figures."""

    name: str
    what: str
    unit: str
    subjects: dict[str, Once | None]
    repeat: int = 5
    better: str = "less"  # or "more"
    targets: tuple[Target, ...] = ()
    headline: str = ""  # the figure that is plotted
    long: bool = False  # left out of a quick run
    notes: dict[str, str] = field(default_factory=dict)  # figure -> what it is


def run(
    measure: Measure,
    only: Iterable[str] | None,
    repeat: int | None,
    say: Callable[[str], None],
    scratch: Path,
) -> dict[str, object]:
    """A B C A B C ...; returns subject -> figure -> {median, low, high, values}.

    A subject that fails in one turn is out of the later ones, and the result says why.

    Args:
        scratch: an empty directory.  Every turn of every subject has one of its own in it, and the caller removes them
            when all is measured: ext4 creates files several times slower for seconds after many were deleted.
    """
    wanted = {name: once for name, once in measure.subjects.items() if only is None or name in only}
    missing = [name for name, once in wanted.items() if once is None]
    present = {name: once for name, once in wanted.items() if once is not None}
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in present}
    failed: dict[str, str] = {}
    load = os.getloadavg()[0]
    for turn in range(repeat or measure.repeat):
        for number, (name, once) in enumerate(present.items()):
            if name in failed:
                continue
            place = scratch / f"{measure.name}-{turn}-{number}"  # short: peers put sockets into it
            place.mkdir()
            try:
                values = once(place)
            except Exception as error:  # noqa: BLE001 - whatever a peer meets, the others are measured
                failed[name] = f"{type(error).__name__}: {error}"
                say(f"{measure.name} [{turn + 1}] {name}: {failed[name]}")
                continue
            for figure, value in values.items():
                seen[name].setdefault(figure, []).append(value)
            shown = ", ".join(f"{figure} {value:.4g}" for figure, value in values.items())
            say(f"{measure.name} [{turn + 1}] {name}: {shown}")
    return {
        "what": measure.what,
        "unit": measure.unit,
        "better": measure.better,
        "headline": measure.headline,
        "notes": measure.notes,
        "targets": [asdict(target) for target in measure.targets],
        "load": round(load, 2),
        "not_installed": missing,
        "failed": failed,
        "subjects": {
            name: {f: _summary(v) for f, v in figures.items()} for name, figures in seen.items() if figures
        },
    }


def _summary(values: list[float]) -> dict[str, object]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "values": values,
    }
