"""Jobs a second: short jobs, each with files for stdout and stderr."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Once, Values
from benchmarks.peers import gnu_parallel, hyperqueue, xargs

JOBS = 3000
Launch = Callable[[Path, int, int], None]


def _ours(directory: Path, count: int, at_a_time: int) -> None:
    workflows.run(directory, workflows.sweep(directory, count, "true"), at_a_time)


def _bare(directory: Path, count: int, at_a_time: int) -> None:
    bash = shutil.which("bash") or "/bin/bash"
    command = [floor.program("spawn_loop"), str(count), str(at_a_time), str(directory), bash]
    subprocess.run(command, check=True)


def _once(launch: Launch) -> Once:
    def once(directory: Path) -> Values:
        values = {}
        for at_a_time in (8, 64):
            place = directory / str(at_a_time)
            place.mkdir()
            began = time.perf_counter()
            launch(place, JOBS, at_a_time)
            values[f"{at_a_time}_at_a_time"] = JOBS / (time.perf_counter() - began)
        return values

    return once


MEASURE = Measure(
    "launch_rate",
    f"{JOBS} jobs of 'bash -c true', start-up and end of the program included",
    "jobs/s",
    {
        "ours": _once(_ours),
        "C posix_spawn loop": _once(_bare),
        xargs.NAME: _once(xargs.launch) if xargs.installed() else None,
        gnu_parallel.NAME: _once(gnu_parallel.launch) if gnu_parallel.installed() else None,
        hyperqueue.NAME: _once(hyperqueue.launch) if hyperqueue.installed() else None,
    },
    better="more",
    targets={
        "8_at_a_time": "at least 0.80 of the C loop, twice GNU parallel, twice HyperQueue",
        "64_at_a_time": "at least 0.80 of the C loop, twice GNU parallel, twice HyperQueue",
    },
)
