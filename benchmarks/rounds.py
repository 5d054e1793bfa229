"""Rounds: what the programs share that kill parts of a supervisor and look at what is left of it.

A round has a directory of its own.  Everything that is started in it carries its mark in the environment, so that it is
found wherever it has gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "torc_supervise_cli")
PARTS = ("parent", "keeper", "sampler")
LIMIT = 90.0  # seconds for anything to end
SHORT = 60.0  # seconds for processes that are about to notice that their parent is gone, on a machine that is busy

Key = tuple[int, int, int]  # run, job, attempt


class Playground:
    """The directory of one round, and the processes that carry its mark."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mark = f"TORC_ROUND={uuid.uuid4().hex}"

    def start(
        self, *arguments: str, prefix: Sequence[str] = (), stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """A command of ours, with what it says in ``said``.  Its control socket is in the directory, too."""
        name, _, value = self._mark.partition("=")
        with open(self.directory / "said", "ab") as said:
            return subprocess.Popen(
                [*prefix, *COMMAND, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                env={**os.environ, name: value, "XDG_RUNTIME_DIR": str(self.directory)},
                stdout=said if stdout is None else stdout,
                stderr=said,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Living processes with the mark."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
                if self._mark.encode() in environment.split(b"\0") and state_of(int(name)) not in "ZX":
                    found.append(int(name))
            except OSError:
                continue
        return found

    def parts(self, parent: int) -> dict[str, int]:
        """Pids of what there is of a supervisor, by name; also when its parent is dead."""
        found = {"parent": parent} if state_of(parent) not in "ZX" else {}
        for pid in children_of(parent) if found else self.processes():
            name = name_of(pid)
            if name in ("torc-keeper", "torc-sampler"):
                found[name.removeprefix("torc-")] = pid
        return found

    def settle(self, seconds: float = SHORT) -> list[int]:
        """What is still there after this time at most."""
        until = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < until:
            ended(left[0], min(0.05, seconds))
        return left

    def kill_rest(self) -> None:
        while left := self.processes():
            for pid in left:
                hit(pid, signal.SIGKILL)
            for pid in left:
                ended(pid, LIMIT)

    def journal(self) -> Path | None:
        """Of the newest workflow that was created; None as long as there is none."""
        found = (self.directory / "torc_output" / "workflows").glob("*/events.jsonl")
        for path in sorted(found, key=lambda path: int(path.parent.name), reverse=True):
            if b"\n" in path.read_bytes():
                return path
        return None

    def go_on(self) -> list[str]:
        """The arguments that run what is left."""
        journal = self.journal()
        return ["run", journal.parent.name if journal is not None else "workflow.json"]


@dataclass(frozen=True)
class Books:
    """What a journal says of attempts."""

    entries: list[dict[str, Any]]

    @classmethod
    def of(cls, path: Path) -> Books:
        """A line that is being written does not count."""
        lines = path.read_bytes().split(b"\n")[:-1]
        return cls([json.loads(line) for line in lines])

    @property
    def has_gap(self) -> bool:
        return [entry["seq"] for entry in self.entries] != list(range(1, len(self.entries) + 1))

    @property
    def started(self) -> Counter[Key]:
        return Counter(key(entry) for entry in self.entries if entry["event"] == "job_started")

    @property
    def ended(self) -> Counter[Key]:
        return Counter(key(entry) for entry in self.entries if entry["event"] == "job_ended")

    @property
    def lost(self) -> list[Key]:
        """Attempts without a result."""
        return sorted((self.started - self.ended).elements())

    @property
    def doubled(self) -> list[Key]:
        """Attempts with more than one result, or more than one start."""
        twice = [attempt for attempt, count in self.started.items() if count > 1]
        return sorted((self.ended - self.started).elements()) + twice

    @property
    def names(self) -> dict[int, str]:
        """job id -> name."""
        return {job["job_id"]: job["name"] for job in self.entries[0]["workflow"]["jobs"]}

    @property
    def num_runs(self) -> int:
        return sum(entry["event"] == "run_started" for entry in self.entries)


def key(entry: dict[str, Any]) -> Key:
    return entry["run_id"], entry["job_id"], entry["attempt_id"]


def state_of(pid: int) -> str:
    """The letter in /proc/PID/stat; X where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def describe(pid: int) -> str:
    """For people who have to find out what is left."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        text = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        own = [entry.decode() for entry in text if entry.startswith((b"TORC_JOB", b"TORC_RUN", b"TORC_ATT"))]
    except OSError:
        return f"{pid}: gone by now"
    return f"{pid} {name_of(pid)} state {fields[0]} parent {fields[1]} group {fields[2]}: {line[:200]} {own}"


def hit(pid: int, signum: int) -> bool:
    """Whether there was somebody to be hit."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def ended(pid: int, seconds: float) -> bool:
    """Whether it ends within that time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
    finally:
        os.close(descriptor)
