"""A job's exit until it is on record: the line is in the journal, where others can read it."""

from __future__ import annotations

import ctypes
import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import floor, workflows
from benchmarks.measure import Measure, Values

JOBS = 100
PATIENCE = 30.0
_IN_MODIFY = 2


def _ours(directory: Path) -> Values:
    """A chain of jobs whose last act is a stamp.  The first one waits until somebody watches the journal."""
    log, gate = directory / "stamps", directory / "gate"
    log.touch()
    os.mkfifo(gate)
    command = f"[ $TORC_JOB_ID != 1 ] || read <{gate}; " + workflows.exec_of(floor.program("stamp"), str(log))
    process = workflows.start(directory, workflows.chain(directory, JOBS, command), 1)
    with open(gate, "w"):  # opens when job 1 does
        changes = _changes(workflows.journal(directory))
        next(changes)
    decided, seen = [], []
    for now, lines in changes:
        for line in lines.splitlines():
            if b'"event":"job_ended"' in line:
                decided.append(int(json.loads(line)["mono"] * 1e9))
                seen.append(now)
        if len(seen) == JOBS:
            break
    process.wait(PATIENCE)
    stamps = sorted(int(line) for line in log.read_text().splitlines())
    return {"decided_ms": _median(stamps, decided), "written_ms": _median(stamps, seen)}


def _bare(directory: Path) -> Values:
    log, times = directory / "stamps", directory / "times"
    log.touch()
    command = ["/bin/bash", "-c", workflows.exec_of(floor.program("stamp"), str(log))]
    loop = [floor.program("record_loop"), str(JOBS), str(directory / "journal"), str(times)]
    subprocess.run([*loop, *command], check=True)
    stamps = sorted(int(line) for line in log.read_text().splitlines())
    written, synced = zip(*(map(int, line.split()) for line in times.read_text().splitlines()), strict=True)
    return {"written_ms": _median(stamps, written), "synced_ms": _median(stamps, synced)}


def _median(begins: list[int], ends: list[int] | tuple[int, ...]) -> float:
    return statistics.median((end - begin) / 1e6 for begin, end in zip(begins, ends, strict=True))


def _changes(path: Path) -> Iterator[tuple[int, bytes]]:
    """What is in the file, and then what is added to it, with monotonic nanoseconds of when that was noticed.

    Raises:
        TimeoutError: nothing is added for long.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    libc.inotify_add_watch(watch, os.fsencode(path), _IN_MODIFY)
    with open(path, "rb") as file:
        try:
            while True:
                yield time.monotonic_ns(), file.read()
                if not select.select([watch], [], [], PATIENCE)[0]:
                    raise TimeoutError(f"{path}: nothing is added any more")
                os.read(watch, 65536)
        finally:
            os.close(watch)


MEASURE = Measure(
    "recorded",
    f"from a job's last act until its end is on record; a chain of {JOBS} jobs",
    "ms",
    {"ours": _ours, "C fork-exec-wait-write": _bare},
    headline="written_ms",
    notes={
        "decided_ms": "until the supervisor has decided on the result",
        "written_ms": "until the line is in the file: ours as a reader is told (inotify), C after its write()",
        "synced_ms": "until its fsync has returned",
    },
)
