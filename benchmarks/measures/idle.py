"""What the supervisor costs while 500 children sleep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks import fan
from benchmarks.measure import Measure, Values

CHILDREN = 500
SECONDS = 60.0


def _ours(directory: Path) -> Values:
    children = fan.Children(directory)
    running = fan.ours(directory, CHILDREN, children.words)
    children.wait_until_ready(CHILDREN)
    own = [psutil.Process(running.process.pid)]
    own += [child for child in own[0].children() if os.path.basename(child.exe()) != "receiver"]
    before, began = _cpu(own), time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):  # that it still runs is what is expected
        running.process.wait(SECONDS)
    busy = (_cpu(own) - before) / (time.monotonic() - began)
    memory = sum(process.memory_full_info().pss for process in own)
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(fan.GONE_WITHIN)
    return {"cpu_percent_of_a_core": busy * 100, "pss_mb": memory / 1e6, "processes": float(len(own))}


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


MEASURE = Measure(
    "idle",
    f"{CHILDREN} children that sleep for {SECONDS:.0f} s: CPU and proportional memory of supervisor and keeper",
    "",
    {"ours": _ours},
    repeat=1,
    targets={"cpu_percent_of_a_core": "at most 0.5", "pss_mb": "at most 60"},
)
