"""SIGTERM to a supervisor that is to kill at once: when the first, the median, the last child is dead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import fan
from benchmarks.fan import Start
from benchmarks.measure import Measure, Once, Values
from benchmarks.peers import circus, gnu_parallel, s6, supervisord

PEERS = (gnu_parallel, circus, s6, supervisord)  # HyperQueue always asks first


def _once(start: Start, count: int) -> Once:
    def once(directory: Path) -> Values:
        return fan.kill(directory, start, count)

    return once


def measures() -> Iterator[Measure]:
    subjects: dict[str, Once | None] = {"ours": _once(fan.ours, 500), "C killpg loop": _once(fan.bare, 500)}
    for peer in PEERS:
        subjects[peer.NAME] = _once(peer.fan, 500) if peer.installed() else None
    yield Measure(
        "kill_500",
        "SIGKILL for 500 children that cannot save; their ends as a bystander sees them (pidfd)",
        "ms",
        subjects,
        repeat=2,
        headline="last_ms",
        notes={"last_ms": "until the last child is dead", "exit_ms": "until the supervisor is gone"},
    )
