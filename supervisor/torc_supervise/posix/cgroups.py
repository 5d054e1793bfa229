"""Cgroups: a control group (v2) per job, where we may make one (cgroups(7)).

Nobody leaves its cgroup by ``setsid``, by forking twice or by wiping its environment, ``cgroup.kill`` reaches whatever
forks meanwhile, and /proc/PID/cgroup is read without any lock of that process.  Slurm and systemd let ordinary users
make none, mostly; everything works without them.

One directory per run, below the cgroup that the supervisor itself is in; in it one for each attempt that is under way,
used again when it is empty.  The job's shell moves itself there before it does anything else (``shell``).
"""

from __future__ import annotations

import contextlib
import os
from collections import deque

from msgspec import Struct

from torc_supervise.posix import procfs

PREFIX = "torc-"
_LINKS_OF_AN_EMPTY_DIRECTORY = 2


class RunCgroup(Struct, frozen=True):
    """``directory``: where it is mounted.  ``path``: as /proc/PID/cgroup names it."""

    directory: str
    path: str

    def job(self, name: str) -> JobCgroup:
        return JobCgroup(name, f"{self.directory}/{name}", f"{self.path}/{name}")

    def name_of(self, pid: int) -> str | None:
        """The name of the job's cgroup that a process is in, None if it is in none."""
        directory, _, name = (path_of(pid) or "").rpartition("/")
        return name if os.path.basename(directory) == os.path.basename(self.directory) else None

    def remove(self) -> None:
        """With everything in it that is empty."""
        remove(self.directory)


class JobCgroup(Struct, frozen=True):
    """``name``: as ``job_started`` says it."""

    name: str
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

    def is_as_new(self) -> bool:
        """Nothing is in it or below it, and whatever comes next is not frozen."""
        events = self._events()
        if b"populated 0" not in events or b"frozen 1" in events:
            return False
        try:
            return os.stat(self.directory).st_nlink == _LINKS_OF_AN_EMPTY_DIRECTORY
        except OSError:
            return False

    def _populated(self) -> bool:
        return b"populated 1" in self._events()

    def _events(self) -> bytes:
        try:
            return procfs.line(f"{self.directory}/cgroup.events")
        except OSError:
            return b""


class JobCgroups:
    """The cgroups of a run's jobs: each holds one attempt at a time.

    Making and removing one costs a tenth of what a short job costs altogether, so they are kept, and used again when
    the end of their last attempt is durable and confirmed.  Not sooner: a last will that does not know that end yet
    would take whatever is in the cgroup for the attempt's that is on record with it (P3).
    Test: test_escapees.py::test_p3_a_job_does_not_get_the_cgroup_of_one_whose_end_is_not_on_record.
    """

    def __init__(self, run: RunCgroup) -> None:
        self._run = run
        self._free: list[JobCgroup] = []
        self._held: dict[int, JobCgroup] = {}  # by job id
        self._ended: deque[tuple[int, JobCgroup]] = deque()  # number of the record of its attempt's end
        self._made = 0

    def take(self, job_id: int) -> JobCgroup | None:
        """For the next attempt of this job; None where none can be made."""
        if self._free:
            cgroup = self._free.pop()
        else:
            cgroup = self._run.job(str(self._made + 1))
            if not cgroup.make():
                return None
            self._made += 1
        self._held[job_id] = cgroup
        return cgroup

    def not_started(self, job_id: int) -> None:
        """There was no attempt after all."""
        cgroup = self._held.pop(job_id, None)
        if cgroup is not None:
            self._free.append(cgroup)

    def ended(self, job_id: int, seq: int) -> None:
        """The attempt's end is record number ``seq``."""
        cgroup = self._held.pop(job_id, None)
        if cgroup is not None:
            self._ended.append((seq, cgroup))

    def confirmed(self, seq: int) -> None:
        """Records up to this one are durable.  What is not as new (unkillable, frozen) is not used again."""
        while self._ended and self._ended[0][0] <= seq:
            _, cgroup = self._ended.popleft()
            if cgroup.is_as_new():
                self._free.append(cgroup)
            else:
                cgroup.remove()

    def remove(self) -> None:
        """All of them that are empty, and that of the run; without a look for others below them, if there are none."""
        for number in range(1, self._made + 1):
            with contextlib.suppress(OSError):
                os.rmdir(self._run.job(str(number)).directory)
        self._run.remove()


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
