"""Jobs a second: short jobs, each with files for stdout and stderr."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Once, Target, Values
from benchmarks.peers import gnu_parallel, hyperqueue, xargs

FLOOR = "C posix_spawn loop"
OUR_WAY = "Python loop that starts jobs our way"
Launch = Callable[[Path, int, int], float]
"""Starts so many jobs, so many at a time; returns seconds."""


def ours(directory: Path, count: int, at_a_time: int) -> float:
    """From typing the command to its end: start-up and the last result on disk included."""
    path = workflows.sweep(directory, count, "true")
    began = time.perf_counter()
    workflows.run(directory, path, at_a_time)
    return time.perf_counter() - began


def bare(directory: Path, count: int, at_a_time: int) -> float:
    command = [floor.program("spawn_loop"), str(count), str(at_a_time), str(directory), "/bin/bash"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def our_way(directory: Path, count: int, at_a_time: int) -> float:
    """What is left where nothing is written down: our spawn, a job's prologue, its cgroup."""
    arguments = [str(count), str(at_a_time), str(directory), "/bin/bash"]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.floors.spawn_loop", *arguments], check=True)
    return time.perf_counter() - began


def _once(launch: Launch, jobs: int, at_a_time: int) -> Once:
    def once(directory: Path) -> Values:
        values = {"jobs_per_second": jobs / launch(directory, jobs, at_a_time)}
        if launch is ours:
            values["once_up"] = 1 / workflows.seconds_per_job(directory, jobs)
        elif launch is hyperqueue.launch:
            values["once_up"] = values["jobs_per_second"]
        return values

    return once


def measures(*, quick: bool) -> Iterator[Measure]:
    jobs = 500 if quick else 4000
    launchers: dict[str, Launch | None] = {
        "ours": ours,
        FLOOR: bare,
        OUR_WAY: our_way,
        xargs.NAME: xargs.launch if xargs.installed() else None,
        gnu_parallel.NAME: gnu_parallel.launch if gnu_parallel.installed() else None,
        hyperqueue.NAME: hyperqueue.launch if hyperqueue.installed() else None,
    }
    for at_a_time in (8, 64):
        yield Measure(
            f"launch_rate_{at_a_time}",
            f"{jobs} jobs of 'bash -c true', {at_a_time} at a time, start-up and end of the program included "
            "(HyperQueue's server and worker are up before). The Python loop writes nothing down: it is what our own "
            "spawn, a job's prologue and its cgroup leave to be had",
            "jobs/s",
            {name: _once(each, jobs, at_a_time) if each else None for name, each in launchers.items()},
            better="more",
            targets=(
                Target("jobs_per_second", 0.80, FLOOR, at_least=True),
                Target("jobs_per_second", 2.0, gnu_parallel.NAME, at_least=True),
                Target("once_up", 2.0, hyperqueue.NAME, at_least=True),
            ),
            repeat=3,
            headline="jobs_per_second",
            notes={
                "once_up": "when the program is up: ours from the first job's start to the last one's end, by the "
                "journal; HyperQueue's server and worker were up before"
            },
        )
