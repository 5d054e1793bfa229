"""What the supervisor costs while 500 children sleep."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks import fan
from benchmarks.measure import Measure, Target, Values
from benchmarks.measures.size import helpers_and

CHILDREN = 500


def measure(seconds: float) -> Measure:
    def ours(directory: Path) -> Values:
        children = fan.Children(directory)
        running = fan.ours(directory, CHILDREN, children.words, signal.SIGTERM)
        fan.ready(running, children, CHILDREN)
        _wait(running, 2.0)  # what follows the last start is not idleness yet
        own = helpers_and(psutil.Process(running.process.pid))
        before, woken, began = _cpu(own), _wakeups(own), time.monotonic()
        _wait(running, seconds)
        passed = time.monotonic() - began
        busy, woken = (_cpu(own) - before) / passed, _wakeups(own) - woken
        memory = sum(process.memory_full_info().pss for process in own)
        running.signal()
        running.gone()
        return {
            "cpu_percent_of_a_core": busy * 100,
            "wakeups_per_minute": woken / passed * 60,
            "pss_mb": memory / 1e6,
            "processes": float(len(own)),
        }

    return Measure(
        "idle",
        f"{CHILDREN} children that sleep for {seconds:.0f} s: what the supervisor's own processes take together",
        "",
        {"ours": ours},
        repeat=1,
        targets=(Target("cpu_percent_of_a_core", 0.5), Target("pss_mb", 60.0)),
        notes={"wakeups_per_minute": "voluntary context switches", "pss_mb": "proportional memory"},
    )


def _wait(running: fan.Fan, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):  # that it still runs is what is expected
        running.process.wait(seconds)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _wakeups(processes: list[psutil.Process]) -> int:
    return sum(process.num_ctx_switches().voluntary for process in processes)
