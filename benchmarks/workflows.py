"""Workflow files for our own program, and how it is called."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "torc_supervise_cli"]


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
