"""The pure core: steps a second, without a system call."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.measure import Measure, Values

STEPS = 300_000


def _steps(directory: Path) -> Values:
    from torc_supervise.exitstatus import Exited
    from torc_supervise.machine import events as e
    from torc_supervise.machine import phases as p
    from torc_supervise.machine.step import step

    policy = p.Policy(15, supports_termination=True)
    begin = p.Starting(policy)
    events = (e.Spawned(7), e.LeaderExited(Exited(0), 0), e.Reaped(None))
    began = time.perf_counter()
    for _ in range(STEPS // len(events)):
        phase: p.Phase = begin
        for event in events:
            phase, _ = step(phase, event, 1.0)
    return {"steps_per_second": STEPS / (time.perf_counter() - began)}


MEASURE = Measure(
    "core",
    "step(phase, event, now) of jobs that start and exit",
    "steps/s",
    {"ours": _steps},
    repeat=3,
    better="more",
)
