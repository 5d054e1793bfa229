"""A dependency hop: from one job's first instruction to that of the job that waits for it."""

from __future__ import annotations

import itertools
import statistics
import subprocess
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Target, Values

JOBS = 200
FLOOR = "C fork-exec-wait"


def _gaps(log: Path) -> Values:
    stamps = sorted(int(line) for line in log.read_text().splitlines())
    gaps = sorted((b - a) / 1e6 for a, b in itertools.pairwise(stamps))
    assert len(gaps) == JOBS - 1, f"{len(stamps)} of {JOBS} jobs ran"
    return {"median_ms": statistics.median(gaps), "p99_ms": gaps[len(gaps) * 99 // 100]}


def _ours(directory: Path) -> Values:
    log = directory / "stamps"
    log.touch()
    path = workflows.chain(directory, JOBS, workflows.exec_of(floor.program("stamp"), str(log)))
    workflows.run(directory, path, 1)
    return _gaps(log)


def _bare(directory: Path) -> Values:
    """The same job: bash opens a file each for stdout and stderr and becomes the program."""
    log = directory / "stamps"
    log.touch()
    command = f"exec </dev/null >{directory}/$$.o 2>{directory}/$$.e\nexec {floor.program('stamp')} {log}"
    subprocess.run([floor.program("hop_loop"), str(JOBS), "/bin/bash", "-c", command], check=True)
    return _gaps(log)


MEASURE = Measure(
    "hop",
    f"a chain of {JOBS} jobs: from one's first instruction to the next one's",
    "ms",
    {"ours": _ours, FLOOR: _bare},
    repeat=7,
    targets=(Target("median_ms", 1.5, FLOOR),),
    headline="median_ms",
)
