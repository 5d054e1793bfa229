"""What a person waits for: `status`, and `run` until the first job's first instruction."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Once, Values

CALLS = 9


def _seconds(command: list[str], directory: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=directory, capture_output=True, check=True)
    return time.perf_counter() - began


def _python(directory: Path) -> Values:
    return {"ms": min(_seconds([sys.executable, "-c", "pass"], directory) for _ in range(CALLS)) * 1e3}


def _status(count: int) -> Once:
    def once(directory: Path) -> Values:
        workflows.run(directory, workflows.sweep(directory, count, "true"), 64)
        command = [*workflows.COMMAND, "status"]
        return {"ms": min(_seconds(command, directory) for _ in range(CALLS)) * 1e3}

    return once


def _start(directory: Path) -> Values:
    log = directory / "stamps"
    log.touch()
    path = workflows.sweep(directory, 1, workflows.exec_of(floor.program("stamp"), str(log)))
    times = []
    for _ in range(5):
        log.write_text("")
        began = time.monotonic_ns()
        workflows.run(directory, path, 1)
        times.append((int(log.read_text()) - began) / 1e6)
    return {"ms": min(times)}


def measures() -> Iterator[Measure]:
    for count, repeat in ((10, 3), (1000, 3), (100_000, 1)):
        yield Measure(
            f"status_{count}",
            f"'torc-supervise status' of a workflow with {count} jobs that is over, the interpreter included",
            "ms",
            {"ours": _status(count), "python3 -c pass": _python},
            repeat=repeat,
            targets={"ms": "at most 2.5 times python3 -c pass"},
        )
    yield Measure(
        "start_up",
        "'torc-supervise run' of one job until that job's first instruction",
        "ms",
        {"ours": _start, "python3 -c pass": _python},
        targets={"ms": "at most 250 ms"},
    )
