"""Kin: which of all processes of this machine belong to which attempt, for the last will (P5, P10).

The keeper is not their parent: nothing comes to it as an orphan, so it looks through /proc.  The rules are those of
``posix.lineage``: ancestry that was seen, the mark, the start time; what carries another run's nonce is let alone.

A group's number proves nothing: its job may be over for days, and the number another's.  One member of it has to be
proven the job's, which proves all, as nobody joins a session from outside.
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

    def __init__(
        self,
        nonce: str | None,
        boot_offset: float,
        cgroup: RunCgroup | None = None,
        *,
        groups_only: bool = False,
    ) -> None:
        """
        Args:
            cgroup: of the run, if it had one.
            nonce: of the run; None where nobody knows it: then only groups are looked at.
            boot_offset: CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds.
            groups_only: what has left a job's group is not looked for.
        """
        self._nonce = nonce
        self._groups_only = groups_only or nonce is None
        self._boot_offset = boot_offset
        self._cgroup = cgroup
        self._owner: dict[Key, JobId] = {}
        self._marks: dict[Key, Mark | None] = {}
        self._unreadable_since: dict[Key, float] = {}

    def members(self, attempts: Mapping[JobId, LiveAttempt]) -> tuple[dict[JobId, list[ProcessStat]], bool]:
        """Living processes of the attempts: of their groups, and outside of them; and whether that is all of them.

        An attempt that could not be started has no group; its number is 0.

        Where the environment of a process cannot be read now it may be one of them: ask again soon.

        Raises:
            OSError: the machine is full.
        """
        found: dict[JobId, list[ProcessStat]] = {job_id: [] for job_id in attempts}
        groups = {live.started.pgid: job_id for job_id, live in attempts.items() if live.started.pgid > 1}
        if not groups:
            return found, True
        everything = {about.pid: about for about in procfs.everything() if about.pid != os.getpid()}
        self._prune(everything)
        owners: dict[int, JobId | None] = {}
        candidates: dict[JobId, list[ProcessStat]] = {}
        for about in everything.values():
            job_id = groups.get(about.pgid)
            if (
                job_id is not None
                and about.sid == about.pgid
                and self._is_young_enough(about, attempts[job_id])
            ):
                candidates.setdefault(job_id, []).append(about)
        sure = True
        for job_id, group in candidates.items():
            is_its = self._is_its_group(group, attempts[job_id], attempts)
            sure = sure and is_its is not None
            if is_its:
                owners |= dict.fromkeys((about.pid for about in group), job_id)
                self._owner |= dict.fromkeys(((about.pid, about.start_ticks) for about in group), job_id)
        if self._cgroup is not None:
            for job_id, live in attempts.items():
                if live.started.cgroup is not None:
                    inside = self._cgroup.job(live.started.cgroup).processes()
                    owners |= dict.fromkeys(everything.keys() & set(inside), job_id)
        for about in () if self._groups_only else everything.values():
            sure = self._resolve(about, everything, owners, attempts) and sure
        for pid, owner in owners.items():
            if owner in found and everything[pid].alive:
                found[owner].append(everything[pid])
        return found, sure

    def _is_its_group(
        self, group: list[ProcessStat], live: LiveAttempt, attempts: Mapping[JobId, LiveAttempt]
    ) -> bool | None:
        """Whether a group with an attempt's number is the attempt's; None where that cannot be told now.

        Race: supervisor and keeper are killed, the job ends by itself, and its number goes to a stranger before
        somebody comes to execute the last will.  A member proves that the group is not a stranger's: it was seen as
        the attempt's before, or carries its mark, or began with it and carries nobody else's.  A group that has been
        left with nothing but later processes that have wiped their environments is taken for a stranger's.
        Tests: test_kin.py::test_p3_a_group_that_has_a_jobs_number_by_chance_is_let_alone,
        tests/simulator/test_found.py.
        """
        job_id, sure = live.started.job_id, True
        if any(self._owner.get((about.pid, about.start_ticks)) == job_id for about in group):
            return True
        for about in sorted(group, key=lambda about: about.start_ticks):  # the leader is read first
            is_known = self._read(about, attempts)
            mark = self._marks.get((about.pid, about.start_ticks)) if self._nonce is not None else None
            if mark is None and self._age_at_start(about, live) <= SLACK:
                return True
            if mark is not None and self._owner_of(about, mark, attempts) == job_id:
                return True
            sure = sure and is_known
        return False if sure else None

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
        return self._age_at_start(about, live) >= -SLACK

    def _age_at_start(self, about: ProcessStat, live: LiveAttempt) -> float:
        """Age of the attempt, in seconds, when this process was started."""
        return about.start_ticks / _TICKS - self._boot_offset - live.mono

    def _read(self, about: ProcessStat, attempts: Mapping[JobId, LiveAttempt]) -> bool:
        """See to it that its mark is known; False where it cannot be read now.

        Most processes of a machine are older than the oldest job, and need not be read.
        """
        key = (about.pid, about.start_ticks)
        if key in self._marks:
            return True
        may_be = any(self._is_young_enough(about, live) for live in attempts.values())
        block = marks.environment_block(about) if may_be and procfs.is_of_our_user(about.pid) else b""
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
