"""How much work things take, counted: the same on a fast machine and on a busy one."""

from __future__ import annotations

import cProfile
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support.many_jobs import begin, go_on

PROGRAM = [sys.executable, "-m", "torc_supervise_cli"]
FEW, MORE = 20, 60
"""Two numbers of jobs: what the second run takes more than the first is due to the jobs, the rest to start and end."""

_CALL = re.compile(r"(\d+) +(\w+)\(")
_IMPORT = re.compile(r"import time: +\d+ \| +\d+ \| +([\w.]+)")


def calls_in_the_core(count: int) -> float:
    """Calls of Python and built-in functions a job, in all that the pure core does for ``count`` jobs."""
    ran = begin(count)
    profile = cProfile.Profile()
    profile.enable()
    go_on(ran)
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats()) / count


def bytes_of_the_journal(count: int) -> float:
    """Bytes a job, its share of the first line, which has the whole workflow, included."""
    ran = begin(count)
    go_on(ran)
    return sum(map(len, ran.lines)) / count


def modules_of(directory: Path, *arguments: str) -> set[str]:
    """Names of the modules that a command loads, and its helpers."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(_IMPORT.findall(done.stderr))


def run_once(directory: Path, count: int, trace: Path | None = None) -> None:
    """A run of ``count`` short jobs, one at a time, so that nothing is done for several of them at once by chance."""
    job = {"name": "job{i:06d}", "command": "true", "parameters": {"i": f"1:{count}"}}
    (directory / "workflow.json").write_text(json.dumps({"name": "counted", "jobs": [job]}))
    command = [*PROGRAM, "run", "workflow.json", "--max-parallel-jobs", "1"]
    traced = [] if trace is None else ["strace", "-f", "-qq", "-o", str(trace)]
    subprocess.run(
        [*traced, *command], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )


def can_trace() -> bool:
    """strace is here and is let."""
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run([strace, "-qq", "-o", os.devnull, "true"], check=False).returncode == 0
    )


def system_calls(directory: Path) -> dict[str, float]:
    """A job: of the ``parent``, of the ``keeper`` with its threads, of the job's ``shell`` beyond ``bash -c true``."""
    few, more = (_traced(directory, count) for count in (FEW, MORE))
    bare = directory / "bare"
    subprocess.run(["strace", "-f", "-qq", "-o", str(bare), "bash", "-c", "true"], check=True)
    a_job = {who: (more[who] - few[who]) / (MORE - FEW) for who in more}
    return {**a_job, "shell": a_job["shell"] - sum(_calls(bare).values())}


def _traced(directory: Path, count: int) -> Counter[str]:
    place = directory / str(count)
    place.mkdir()
    run_once(place, count, place / "trace")
    return _calls(place / "trace")


def _calls(trace: Path) -> Counter[str]:
    """Calls by ``parent``, ``keeper`` and ``shell``.  A job's process is whoever executes a program.

    How often threads wait for each other (futex) is chance, and is left out.  So are snapshots: there is one a second,
    so how many there are to a job says how fast the machine is.
    """
    by_pid: dict[str, Counter[str]] = {}
    in_snapshot: set[str] = set()  # threads that write one
    with open(trace, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not (call := _CALL.match(line)):
                continue
            by_pid.setdefault(call[1], Counter())
            if call[2] == "openat":
                (in_snapshot.add if "/status.json.new" in line else in_snapshot.discard)(call[1])
            if call[1] not in in_snapshot:
                by_pid[call[1]][call[2]] += 1
            elif call[2].startswith("rename"):  # or renameat, renameat2
                in_snapshot.remove(call[1])
    who: Counter[str] = Counter()
    parent = next(iter(by_pid))
    for pid, calls in by_pid.items():
        kind = "parent" if pid == parent else "shell" if calls["execve"] else "keeper"
        who[kind] += calls.total() - calls["futex"]
    return who


def measure(directory: Path) -> dict[str, Callable[[], float]]:
    """All figures by the names that :mod:`counts.budgets` has for them."""
    finished = directory / "finished"
    finished.mkdir(parents=True)
    run_once(finished, 10)
    traced: dict[str, float] = {}

    def system_calls_of(who: str) -> float:
        if not traced:
            traced.update(system_calls(directory))
        return traced[who]

    return {
        "core_calls_per_job": lambda: calls_in_the_core(1000),
        "journal_bytes_per_job": lambda: bytes_of_the_journal(1000),
        "modules_of_status": lambda: len(modules_of(finished, "status", "1")),
        "modules_of_run": lambda: len(modules_of(finished, "run", "workflow.json")),
        "parent_calls_per_job": lambda: system_calls_of("parent"),
        "keeper_calls_per_job": lambda: system_calls_of("keeper"),
        "shell_calls_per_job": lambda: system_calls_of("shell"),
    }
