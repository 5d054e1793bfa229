"""Workflow files for our own program, and how it is called."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

COMMAND = [os.fspath(Path(sys.executable).with_name("torc-supervise"))]
"""As users call it: the script that the installation made."""

_finished: dict[int, Path] = {}


def sweep(directory: Path, count: int, command: str, **fields: object) -> str:
    """``count`` equal jobs; returns the file's path."""
    job = {"name": "job{i:06d}", "command": command, "parameters": {"i": f"1:{count}"}, **fields}
    return _write(directory, [job])


def chain(directory: Path, count: int, command: str) -> str:
    """``count`` jobs, each depending on the one before."""
    jobs: list[dict[str, object]] = [
        {"name": f"job{i}", "command": command, **({"depends_on": [f"job{i - 1}"]} if i else {})}
        for i in range(count)
    ]
    return _write(directory, jobs)


def run(directory: Path, path: str, at_a_time: int) -> None:
    """A whole run that has to complete."""
    subprocess.run(
        [*COMMAND, "run", path, "--max-parallel-jobs", str(at_a_time)],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )


def finished(directory: Path, count: int) -> Path:
    """A directory with a workflow of so many short jobs that is over: one there is, or one made in this one."""
    if count not in _finished:
        run(directory, sweep(directory, count, "true"), 16)
        _finished[count] = directory
    return _finished[count]


def known() -> set[int]:
    """For which numbers of jobs :func:`finished` has one."""
    return set(_finished)


def keep_finished(directory: Path, count: int) -> None:
    """:func:`finished` may use this one."""
    _finished.setdefault(count, directory)


def journal(directory: Path) -> Path:
    return directory / "torc_output" / "workflows" / "1" / "events.jsonl"


def seconds_per_job(directory: Path, count: int) -> float:
    """Of a run that is over: from the first job's start to the last one's end, as its journal has it."""
    began = ended = None
    with open(journal(directory), "rb") as lines:
        for line in lines:
            if began is None and b'"event":"job_started"' in line:
                began = line
            elif b'"event":"job_ended"' in line:
                ended = line
    if began is None or ended is None:
        raise ValueError("nothing ran")
    return float(json.loads(ended)["mono"] - json.loads(began)["mono"]) / count


def start(directory: Path, path: str, at_a_time: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "run", path, "--max-parallel-jobs", str(at_a_time)],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def exec_of(*words: str) -> str:
    """A job's command that becomes this program."""
    return "exec " + shlex.join(words)


def _write(directory: Path, jobs: list[dict[str, object]]) -> str:
    path = directory / "workflow.json"
    path.write_text(json.dumps({"name": "benchmark", "jobs": jobs}))
    return os.fspath(path)
