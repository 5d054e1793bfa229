"""Kin: which of all processes of this machine belong to which attempt, for the last will (P5, P10).

The keeper is not their parent: nothing comes to it as an orphan, so it looks through /proc.  The rules are those of
``posix.lineage``: ancestry that was seen, the mark, the start time; what carries another run's nonce is let alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from torc_supervise.machine.live import LiveAttempt
from torc_supervise.posix import marks, procfs
from torc_supervise.posix.cgroups import RunCgroup
from torc_supervise.posix.lineage import UNREADABLE_AFTER, Key
from torc_supervise.posix.marks import Mark
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.workflow.model import JobId

_TICKS = os.sysconf("SC_CLK_TCK")

SLACK = 2.0
"""Seconds: ticks are coarse, and a job's record is written after its spawn."""


class Kin:
    """Remembers what it has found from look to look."""

    def __init__(self, nonce: str | None, boot_offset: float, cgroup: RunCgroup | None = None) -> None:
        """
        Args:
            cgroup: of the run, if it had one.
            nonce: of the run; None where nobody knows it: then only groups are looked at.
            boot_offset: CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds.
        """
        self._nonce = nonce
        self._boot_offset = boot_offset
        self._cgroup = cgroup
        self._owner: dict[Key, JobId] = {}
        self._marks: dict[Key, Mark | None] = {}
        self._unreadable_since: dict[Key, float] = {}

    def members(self, attempts: Mapping[JobId, LiveAttempt]) -> dict[JobId, list[ProcessStat]] | None:
        """Living processes of the attempts: of their groups, and outside of them.

        What has a group's number is of the right session, no older than the job, and does not carry another's mark.  An
        attempt that could not be started has no group; its number is 0.

        Race: the leader was collected, by its supervisor or, after that one's death, by init, and its number went to
        the leader of somebody else's job, or of one of ours that nobody has heard of yet.
        Test: tests/simulator/test_found.py.

        Returns:
            None where the environment of a process cannot be read now: ask again soon.

        Raises:
            OSError: the machine is full.
        """
        found: dict[JobId, list[ProcessStat]] = {job_id: [] for job_id in attempts}
        groups = {live.started.pgid: job_id for job_id, live in attempts.items() if live.started.pgid > 1}
        if not groups:
            return found
        everything = {about.pid: about for about in procfs.everything() if about.pid != os.getpid()}
        self._prune(everything)
        owners: dict[int, JobId | None] = {}
        for about in everything.values():
            job_id = groups.get(about.pgid)
            if job_id is not None and self._is_member(about, attempts[job_id], attempts):
                owners[about.pid] = job_id
        if self._cgroup is not None:
            for job_id, live in attempts.items():
                inside = self._cgroup.job(str(job_id), str(live.started.attempt_id)).processes()
                owners |= dict.fromkeys(everything.keys() & set(inside), job_id)
        sure = True
        for about in everything.values() if self._nonce is not None else ():
            sure = self._resolve(about, everything, owners, attempts) and sure
        for pid, owner in owners.items():
            if owner in found and everything[pid].alive:
                found[owner].append(everything[pid])
        return found if sure else None

    def _is_member(
        self, about: ProcessStat, live: LiveAttempt, attempts: Mapping[JobId, LiveAttempt]
    ) -> bool:
        """Of a process with the attempt's group: one that has wiped its environment, or shows none now, is believed."""
        if about.sid != about.pgid or not self._is_young_enough(about, live):
            return False
        if self._nonce is None:
            return True
        self._read(about, attempts)
        mark = self._marks.get((about.pid, about.start_ticks))
        started = live.started
        return mark is None or mark == Mark(self._nonce, str(started.job_id), str(started.attempt_id))

    def _resolve(
        self,
        about: ProcessStat,
        everything: Mapping[int, ProcessStat],
        owners: dict[int, JobId | None],
        attempts: Mapping[JobId, LiveAttempt],
    ) -> bool:
        """Fill in the owner of a process and of its ancestors; False where that cannot be told now."""
        path: list[ProcessStat] = []
        owner, here, sure = None, everything.get(about.pid), True
        while here is not None and here not in path:
            if here.pid in owners:
                owner = owners[here.pid]
                break
            path.append(here)
            key = (here.pid, here.start_ticks)
            if key in self._owner:
                owner = self._owner[key]
                break
            sure = self._read(here, attempts) and sure
            mark = self._marks.get(key)
            if mark is not None:
                owner = self._owner_of(here, mark, attempts)
                break
            here = everything.get(here.ppid)
        for each in path:
            owners[each.pid] = owner
            if owner is not None:
                self._owner[each.pid, each.start_ticks] = owner
        return sure

    def _owner_of(
        self, about: ProcessStat, mark: Mark, attempts: Mapping[JobId, LiveAttempt]
    ) -> JobId | None:
        if mark.nonce != self._nonce or not mark.job_id.isdecimal():
            return None
        live = attempts.get(int(mark.job_id))
        if live is None or mark.attempt_id != str(live.started.attempt_id):
            return None
        return live.started.job_id if self._is_young_enough(about, live) else None

    def _is_young_enough(self, about: ProcessStat, live: LiveAttempt) -> bool:
        return about.start_ticks / _TICKS - self._boot_offset >= live.mono - SLACK

    def _read(self, about: ProcessStat, attempts: Mapping[JobId, LiveAttempt]) -> bool:
        """See to it that its mark is known; False where it cannot be read now.

        Most processes of a machine are older than the oldest job, and need not be read.
        """
        key = (about.pid, about.start_ticks)
        if key in self._marks:
            return True
        may_be = any(self._is_young_enough(about, live) for live in attempts.values())
        block = marks.environment_block(about) if may_be and _is_of_our_user(about.pid) else b""
        if block is not None:
            self._marks[key] = marks.parse(block)
            return True
        now = time.monotonic()
        return now - self._unreadable_since.setdefault(key, now) >= UNREADABLE_AFTER

    def _prune(self, everything: Mapping[int, ProcessStat]) -> None:
        there = {(about.pid, about.start_ticks) for about in everything.values()}
        for book in (self._owner, self._marks, self._unreadable_since):
            for key in book.keys() - there:
                del book[key]


def _is_of_our_user(pid: int) -> bool:
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return False
