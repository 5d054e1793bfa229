"""A dependency hop: from one job's first instruction to that of the job that waits for it."""

from __future__ import annotations

import itertools
import statistics
import subprocess
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Values

JOBS = 200


def _gaps(log: Path) -> Values:
    stamps = sorted(int(line) for line in log.read_text().splitlines())
    gaps = [(b - a) / 1e6 for a, b in itertools.pairwise(stamps)]
    return {"median_ms": statistics.median(gaps), "p99_ms": sorted(gaps)[len(gaps) * 99 // 100]}


def _ours(directory: Path) -> Values:
    log = directory / "stamps"
    log.touch()
    path = workflows.chain(directory, JOBS, workflows.exec_of(floor.program("stamp"), str(log)))
    workflows.run(directory, path, 1)
    return _gaps(log)


def _bare(directory: Path) -> Values:
    """The same command line as ours runs it: bash opens the files and becomes the program."""
    log = directory / "stamps"
    log.touch()
    stamp = f"exec >{directory}/o 2>{directory}/e\nexec {floor.program('stamp')} {log}"
    subprocess.run([floor.program("hop_loop"), str(JOBS), "/bin/bash", "-c", stamp], check=True)
    return _gaps(log)


MEASURE = Measure(
    "hop",
    f"a chain of {JOBS} jobs: from one's first instruction to the next one's",
    "ms",
    {"ours": _ours, "C fork-exec-wait": _bare},
    targets={"median_ms": "at most 1.5 times the C loop"},
)
