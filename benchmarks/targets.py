"""What was to be reached, and whether it is: ratios of figures that were measured in the same run."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]
"""Median, low, high, values."""


@dataclass(frozen=True)
class Verdict:
    """``ratio``: ours to the reference's; None where one of the two is not there."""

    measure: str
    figure: str
    wanted: str
    ours: float | None
    reference: float | None
    ratio: float | None
    reached: bool | None


def verdicts(measures: dict[str, Any]) -> list[Verdict]:
    return [
        _verdict(measures, name, target)
        for name, measure in measures.items()
        for target in measure["targets"]
    ]


def _verdict(measures: dict[str, Any], name: str, target: dict[str, Any]) -> Verdict:
    figure, factor, at_least = target["figure"], target["factor"], target["at_least"]
    side = "at least" if at_least else "at most"
    ours = _figure(measures, name, "ours", figure)
    if not target["of"]:
        reached = None if ours is None else (ours["median"] >= factor) is at_least or ours["median"] == factor
        return Verdict(name, figure, f"{side} {factor:g}", _median(ours), None, None, reached)
    other = _figure(measures, target["measure"] or name, target["of"], figure)
    of = f"{target['of']}{' in ' + target['measure'] if target['measure'] else ''}"
    ratio = None if ours is None or other is None else _ratio(ours, other)
    reached = None if ratio is None else (ratio >= factor) is at_least or ratio == factor
    return Verdict(
        name, figure, f"{side} {factor:g} times {of}", _median(ours), _median(other), ratio, reached
    )


def _ratio(ours: Figure, other: Figure) -> float:
    """Turn by turn, since what was measured one after the other is what compares best; the median of those."""
    if len(ours["values"]) == len(other["values"]):
        turns: list[float] = [a / b for a, b in zip(ours["values"], other["values"], strict=True)]
        return statistics.median(turns)
    ratio: float = ours["median"] / other["median"]
    return ratio


def _figure(measures: dict[str, Any], name: str, subject: str, figure: str) -> dict[str, Any] | None:
    found = measures.get(name, {}).get("subjects", {}).get(subject, {}).get(figure)
    return found if isinstance(found, dict) else None


def _median(figure: dict[str, Any] | None) -> float | None:
    return None if figure is None else float(figure["median"])
