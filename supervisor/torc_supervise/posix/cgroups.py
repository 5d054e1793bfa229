"""Cgroups: a control group (v2) per job, where we may make one (cgroups(7)).

Nobody leaves its cgroup by ``setsid``, by forking twice or by wiping its environment, ``cgroup.kill`` reaches whatever
forks meanwhile, and /proc/PID/cgroup is read without any lock of that process.  Slurm and systemd let ordinary users
make none, mostly; everything works without them.

One directory per run, below the cgroup that the supervisor itself is in; one per attempt in it.  The job's shell moves
itself there before it does anything else (``shell``).
"""

from __future__ import annotations

import contextlib
import os

from msgspec import Struct

from torc_supervise.posix import procfs

PREFIX = "torc-"


class RunCgroup(Struct, frozen=True):
    """``directory``: where it is mounted.  ``path``: as /proc/PID/cgroup names it."""

    directory: str
    path: str

    def job(self, job_id: str, attempt_id: str) -> JobCgroup:
        name = f"{job_id}.{attempt_id}"
        return JobCgroup(f"{self.directory}/{name}", f"{self.path}/{name}")

    def remove(self) -> None:
        """With everything in it that is empty."""
        remove(self.directory)


class JobCgroup(Struct, frozen=True):
    directory: str
    path: str

    @property
    def entrance(self) -> str:
        """The file to which a process writes its pid to move there."""
        return f"{self.directory}/cgroup.procs"

    def make(self) -> bool:
        try:
            os.mkdir(self.directory)
        except FileExistsError:
            return True
        except OSError:
            return False
        return True

    def processes(self) -> list[int]:
        """Living processes in it; those of cgroups below it only where it holds none itself.

        (A supervisor that runs as a job makes cgroups of its own below its job's, and sees to them while it lives.)
        """
        if not self._populated():
            return []
        own = _processes(self.directory)
        return own or [pid for below, _, _ in os.walk(self.directory) for pid in _processes(below)]

    def kill(self) -> None:
        """SIGKILL to everything in it and below (Linux 5.14); where there is no such file, nothing happens."""
        with (
            contextlib.suppress(OSError),
            open(f"{self.directory}/cgroup.kill", "w", encoding="ascii") as file,
        ):
            file.write("1")

    def remove(self) -> None:
        remove(self.directory)

    def _populated(self) -> bool:
        try:
            return b"populated 1" in procfs.contents(f"{self.directory}/cgroup.events")
        except OSError:
            return False


def make(nonce: str) -> RunCgroup | None:
    """Make the directory of a run; None where that is not for us to do."""
    own = _own()
    if own is None:
        return None
    made = RunCgroup(*(f"{each.rstrip('/')}/{PREFIX}{nonce}" for each in own))
    try:
        os.mkdir(made.directory)
    except OSError:
        return None
    # To move a process, both cgroups and their common ancestor must be ours to write.
    if all(os.access(f"{each}/cgroup.procs", os.W_OK) for each in (own[0], made.directory)):
        return made
    made.remove()
    return None


def path_of(pid: int) -> str | None:
    """The cgroup (v2) that a process is in; None if it is gone, or there is no such thing."""
    try:
        lines = procfs.contents(f"/proc/{pid}/cgroup").split(b"\n")
    except OSError:
        return None
    return next((os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::")), None)


def remove(directory: str) -> None:
    """This cgroup and those below it, as far as they are empty."""
    with contextlib.suppress(OSError):
        os.rmdir(directory)
        return
    for below, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(below)


def _own() -> tuple[str, str] | None:
    """Directory and path of the cgroup that we are in."""
    path = path_of(os.getpid())
    try:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
    except (OSError, UnicodeDecodeError):
        return None
    for fields in mounts:
        root, point, kind = fields[3], fields[4], fields[fields.index("-") + 1]
        if path is not None and kind == "cgroup2" and root == "/":
            return f"{point}{path}", path
    return None


def _processes(directory: str) -> list[int]:
    try:
        return [pid for pid in map(int, procfs.contents(f"{directory}/cgroup.procs").split()) if pid]
    except OSError:
        return []
