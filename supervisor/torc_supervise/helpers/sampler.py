"""The sampler: memory and CPU of every job's processes, at an interval (psutil).

It is a process of its own because a scan of /proc takes milliseconds, and because reading a process's memory map may
wait for that process.  It runs only where somebody asked for figures or stated a memory limit.

What counts as a job's: its process group and session, and what descends from its leader, as seen at each look.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time

from msgspec import Struct

from torc_supervise.helpers import messages
from torc_supervise.posix import procfs
from torc_supervise.posix.clock import LONGEST_WAIT
from torc_supervise.posix.subreaper import die_with_parent


class _Watched(Struct):
    job_id: int
    pid: int
    limit: int | None  # bytes
    cpu_seconds: dict[int, float] = {}  # pid -> CPU time at the last look
    looked_at: float = 0.0


class Sampler:
    """Serves one connection until its end."""

    def __init__(self, parent: socket.socket, interval: float) -> None:
        self._parent = parent
        self._interval = interval
        self._jobs: dict[int, _Watched] = {}
        self._rest = b""

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._parent, selectors.EVENT_READ)
        due = time.monotonic() + self._interval
        while True:
            # Nothing to look at: sleep until told of a job.
            timeout = min(LONGEST_WAIT, max(0.0, due - time.monotonic())) if self._jobs else None
            if selector.select(timeout) and not self._listen():
                return
            if time.monotonic() >= due:
                self._look()
                due = time.monotonic() + self._interval

    def _listen(self) -> bool:
        try:
            data = self._parent.recv(1 << 16)
        except ConnectionError:
            data = b""  # the parent left without reading our last samples
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"J"):
                job = messages.body(line)
                self._jobs[job["job_id"]] = _Watched(
                    job["job_id"], job["pid"], job["limit"], {}, time.monotonic()
                )
            elif line.startswith(b"D"):
                self._jobs.pop(int(line[1:]), None)
        return bool(data)

    def _look(self) -> None:
        """One scan of /proc for all jobs together."""
        by_leader = {job.pid: job for job in self._jobs.values()}
        everything = {about.pid: about for about in procfs.everything() if about.alive}
        members: dict[int, list[int]] = {}
        for about in everything.values():
            owner = _owner(about, everything, by_leader)
            if owner is not None:
                members.setdefault(owner.job_id, []).append(about.pid)
        samples = b"".join(self._sample(job, members.get(job.job_id, [])) for job in self._jobs.values())
        if samples:
            with contextlib.suppress(OSError):  # the parent is gone: the next read says so
                self._parent.sendall(samples)

    def _sample(self, job: _Watched, pids: list[int]) -> bytes:
        import psutil

        memory, cpu, now, times = 0, 0.0, time.monotonic(), {}
        for pid in pids:
            try:
                process = psutil.Process(pid)
                memory += _memory(process)
                spent = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue  # it ended while we looked
            times[pid] = spent
            cpu += max(0.0, spent - job.cpu_seconds.get(pid, 0.0))
        elapsed = max(now - job.looked_at, 1e-3)
        job.cpu_seconds, job.looked_at = times, now
        if not times:
            return b""
        at_limit = job.limit is not None and memory > job.limit
        return messages.line("S", [job.job_id, memory, round(100 * cpu / elapsed, 1), at_limit])


def _owner(
    about: procfs.ProcessStat, everything: dict[int, procfs.ProcessStat], by_leader: dict[int, _Watched]
) -> _Watched | None:
    """By group, by session, else by the line of parents."""
    for number in (about.pgid, about.sid):
        if number in by_leader:
            return by_leader[number]
    parent, steps = everything.get(about.ppid), 0
    while parent is not None and steps < 64:
        if parent.pid in by_leader:
            return by_leader[parent.pid]
        parent, steps = everything.get(parent.ppid), steps + 1
    return None


def _memory(process: object) -> int:
    """Proportional set size where we may read it (memory shared between a job's processes counts once), else RSS."""
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return int(process.memory_info().rss)


def main(parent: socket.socket, interval: float) -> None:
    """What the forked child runs."""
    die_with_parent()
    os.nice(5)  # figures may come late, jobs should not
    Sampler(parent, interval).run()
