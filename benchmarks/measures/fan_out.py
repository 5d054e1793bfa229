"""SIGTERM to the supervisor: when the first, the median, the last child has it, and when the supervisor is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import fan
from benchmarks.fan import Start
from benchmarks.measure import Measure, Once, Values
from benchmarks.peers import circus, gnu_parallel, hyperqueue, s6, supervisord

COUNTS = (100, 200, 500, 1000)
PEERS = (gnu_parallel, hyperqueue, circus, s6, supervisord)


def _once(start: Start, count: int, save_seconds: float = 0.0) -> Once:
    def once(directory: Path) -> Values:
        return fan.terminate(directory, start, count, save_seconds)

    return once


def _subjects(count: int, save_seconds: float = 0.0) -> dict[str, Once | None]:
    subjects: dict[str, Once | None] = {
        "ours": _once(fan.ours, count, save_seconds),
        "C killpg loop": _once(fan.bare, count, save_seconds),
    }
    for peer in PEERS:
        subjects[peer.NAME] = _once(peer.fan, count, save_seconds) if peer.installed() else None
    return subjects


def measures() -> Iterator[Measure]:
    for count in COUNTS:
        yield Measure(
            f"fan_out_{count}",
            f"SIGTERM with {count} children that exit at once; ours has every result on disk when it is gone",
            "ms",
            _subjects(count),
            targets={"last_ms": "at most 1.4 times the C loop", "exit_ms": "at most 4 times the C loop"},
        )
    yield Measure(
        "fan_out_500_saving",
        "SIGTERM with 500 children that take a second to save; exit_ms is what comes on top of that second",
        "ms",
        _subjects(500, 1.0),
        repeat=3,
    )
