"""What a person waits for: `status`, and `run` until the first job's first instruction."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Once, Target, Values

CALLS = 9
FLOOR = "python3 -c pass"


def _seconds(command: list[str], directory: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began


def _several(command: list[str], directory: Path) -> Values:
    """Once unmeasured: the first call may have to compile modules."""
    _seconds(command, directory)
    return {"ms": statistics.median(_seconds(command, directory) for _ in range(CALLS)) * 1e3}


def _python(directory: Path) -> Values:
    return _several([sys.executable, "-c", "pass"], directory)


def _status(count: int) -> Once:
    def once(directory: Path) -> Values:
        return _several([*workflows.COMMAND, "status"], workflows.finished(directory, count))

    return once


def _start(directory: Path) -> Values:
    log = directory / "stamps"
    path = workflows.sweep(directory, 1, workflows.exec_of(floor.program("stamp"), str(log)))
    times = []
    for _ in range(CALLS):
        log.write_text("")
        began = time.monotonic_ns()
        workflows.run(directory, path, 1)
        times.append((int(log.read_text()) - began) / 1e6)
    return {"ms": statistics.median(times)}


def status_measures() -> Iterator[Measure]:
    for count in (10, 1000, 100_000):
        yield Measure(
            f"status_{count}",
            f"'torc-supervise status' of a workflow with {count} jobs that is over, the interpreter included",
            "ms",
            {"ours": _status(count), FLOOR: _python},
            repeat=3,
            targets=(Target("ms", 2.5, FLOOR),),
            long=count > 10_000,
        )


START_UP = Measure(
    "start_up",
    "'torc-supervise run' of one job until that job's first instruction",
    "ms",
    {"ours": _start, FLOOR: _python},
    repeat=3,
    targets=(Target("ms", 250.0),),
)
