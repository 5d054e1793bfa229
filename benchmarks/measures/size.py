"""What a job costs where there are many: it must not grow with their number."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import workflows
from benchmarks.measure import Measure, Once, Target, Values
from benchmarks.measures import launch_rate

AT_A_TIME = 16
SMALL = 1000
SMALL_RUNS = 10
LOOK_EVERY = 0.5
"""Seconds between looks at the supervisor's memory and CPU."""


def _ours(count: int) -> Once:
    def once(directory: Path) -> Values:
        path = workflows.sweep(directory, count, "true")
        process = workflows.start(directory, path, AT_A_TIME)
        cpu, memory = _watched(process)
        assert process.returncode == 0, f"the run ended with {process.returncode}"
        workflows.keep_finished(directory, count)
        return {
            "us_per_job": workflows.seconds_per_job(directory, count) * 1e6,
            "cpu_us_per_job": cpu / count * 1e6,
            "pss_mb": memory / 1e6,
        }

    return once


def _flat(count: int) -> Once:
    """Ours, and what a job costs in small runs before and after it, so that a machine that drifts is no growth."""
    large = _ours(count)

    def small(directory: Path) -> float:
        directory.mkdir()
        workflows.run(directory, workflows.sweep(directory, SMALL, "true"), AT_A_TIME)
        return workflows.seconds_per_job(directory, SMALL) * 1e6

    def once(directory: Path) -> Values:
        costs = [small(directory / f"before{number}") for number in range(SMALL_RUNS)]
        values = large(directory)
        costs += [small(directory / f"after{number}") for number in range(SMALL_RUNS)]
        values["us_per_job_of_1000"] = sum(costs) / len(costs)
        values["growth"] = values["us_per_job"] / values["us_per_job_of_1000"]
        return values

    return once


def _watched(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Until it ends: CPU seconds of it and its helpers as last seen, and the most memory they had, in bytes of PSS."""
    parent = psutil.Process(process.pid)
    cpu: dict[int, float] = {}
    most = 0.0
    while True:
        try:
            process.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            memory = 0.0
            for each in helpers_and(parent):
                try:
                    memory += each.memory_full_info().pss
                    cpu[each.pid] = sum(each.cpu_times()[:2])
                except psutil.Error:
                    continue  # a job's shell, between fork and exec, or the end of the run
            most = max(most, memory)
        else:
            return sum(cpu.values()), most


def helpers_and(parent: psutil.Process) -> list[psutil.Process]:
    """The supervisor and those of its children that run the same program."""
    try:
        program = parent.exe()
        children = parent.children()
    except psutil.Error:
        return []
    own = [parent]
    for child in children:
        try:
            if child.exe() == program:
                own.append(child)
        except psutil.Error:
            continue  # it has ended
    return own


def _bare(count: int) -> Once:
    def once(directory: Path) -> Values:
        return {"us_per_job": launch_rate.bare(directory, count, AT_A_TIME) / count * 1e6}

    return once


def _replay(directory: Path) -> Values:
    from torc_supervise.store.journal import replay

    count = 1000 if 100_000 not in workflows.known() else 100_000
    path = workflows.journal(workflows.finished(directory, count))
    began = time.perf_counter()
    replay(str(path))
    seconds = time.perf_counter() - began
    return {"s_per_100000_jobs": seconds / count * 1e5, "bytes_per_job": path.stat().st_size / count}


def measures() -> Iterator[Measure]:
    for count, repeat in ((100, 5), (1000, 5), (10_000, 1), (100_000, 1)):
        targets = (Target("pss_mb", 300.0), Target("growth", 1.10))
        yield Measure(
            f"cost_{count}",
            f"a run of {count} short jobs, {AT_A_TIME} at a time",
            "",
            {"ours": _flat(count) if count == 100_000 else _ours(count), launch_rate.FLOOR: _bare(count)},
            repeat=repeat,
            targets=targets if count == 100_000 else (),
            headline="us_per_job",
            long=count >= 10_000,
            notes={
                "us_per_job": "from the first job's start to the last one's end",
                "cpu_us_per_job": "of the supervisor and its keeper, as seen half a second before the end at worst",
                "us_per_job_of_1000": f"of runs of {SMALL} jobs, {SMALL_RUNS} before it and {SMALL_RUNS} after it",
                "growth": "us_per_job to us_per_job_of_1000",
                "pss_mb": "the most that supervisor and keeper had together",
            },
        )


REPLAY = Measure("replay", "reading a journal back", "", {"ours": _replay}, repeat=3)
