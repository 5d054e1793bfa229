"""SIGTERM to the supervisor: when the first, the median, the last child has it, and when the supervisor is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import fan
from benchmarks.fan import Start
from benchmarks.measure import Measure, Once, Target, Values
from benchmarks.peers import circus, gnu_parallel, hyperqueue, s6, supervisord

TURNS = {100: 2, 200: 2, 500: 5, 1000: 1}
PEERS = (gnu_parallel, hyperqueue, circus, s6, supervisord)
FLOOR = "C killpg loop"
NOTES = {
    "last_ms": "from the signal to the supervisor until the last child has it, by the child's own clock",
    "exit_ms": "until the supervisor is gone, none if it hung; ours has every result on disk by then",
    "reached": "children that were signalled; the others were killed or left",
}


def _once(start: Start, count: int, save_seconds: float = 0.0) -> Once:
    def once(directory: Path) -> Values:
        return fan.terminate(directory, start, count, save_seconds)

    return once


def _subjects(count: int, save_seconds: float = 0.0) -> dict[str, Once | None]:
    subjects: dict[str, Once | None] = {
        "ours": _once(fan.ours, count, save_seconds),
        FLOOR: _once(fan.bare, count, save_seconds),
    }
    for peer in PEERS:
        subjects[peer.NAME] = _once(peer.fan, count, save_seconds) if peer.installed() else None
    return subjects


def measures() -> Iterator[Measure]:
    for count, turns in TURNS.items():
        yield Measure(
            f"fan_out_{count}",
            f"SIGTERM with {count} children that exit at once",
            "ms",
            _subjects(count),
            repeat=turns,
            targets=(Target("last_ms", 1.4, FLOOR), Target("exit_ms", 4.0, FLOOR)) if count == 500 else (),
            headline="last_ms",
            notes=NOTES,
        )
    yield Measure(
        "fan_out_500_saving",
        "SIGTERM with 500 children that take a second to save; exit_ms is what comes on top of that second",
        "ms",
        _subjects(500, 1.0),
        repeat=2,
        headline="exit_ms",
        notes=NOTES | {"saved": "children that lived to the end of that second"},
    )
