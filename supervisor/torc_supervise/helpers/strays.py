"""Strays: attempts that were started and are not on record, because whoever was to write that was killed first.

A job has a process a moment before its keeper is told, and its record is durable a moment after that.  What is left
of a supervisor and a keeper that were killed in between is known by ``TORC_RUN_NONCE``, and by job and attempt beside
it (docs/decisions/0023).
"""

from __future__ import annotations

import os
import select

from msgspec import Struct

from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.posix import clock, marks, procfs
from torc_supervise.posix.identity import own_identity
from torc_supervise.posix.lineage import UNREADABLE_AFTER
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER
from torc_supervise.store.lock import Owner
from torc_supervise.workflow.model import JobId

_TICKS = os.sysconf("SC_CLK_TCK")


class Stray(Struct, frozen=True):
    """``group``: number of its process group, and of its session.  ``pid``: of the first of its processes that is left.

    ``began``: seconds on our monotonic clock.
    """

    job_id: JobId
    attempt_id: int
    group: int
    pid: int
    began: float


def find(nonce: str, state: WorkflowState, patience: float = UNREADABLE_AFTER) -> list[Stray]:
    """Attempts of this run that have living processes, and that the state knows nothing of.

    Args:
        patience: seconds that may be waited for what cannot be read yet.

    Each is the next attempt of a job; whatever else carries the nonce belongs to one that is on record, or to none.
    """
    found: dict[JobId, list[ProcessStat]] = {}
    unknown = state.known_ids() - state.live.keys()
    for about, mark in carriers(nonce, patience):
        job_id = int(mark.job_id) if mark.job_id.isdecimal() else 0
        if job_id in unknown and mark.attempt_id == str(state.attempt_of(job_id)):
            found.setdefault(job_id, []).append(about)
    offset = clock.boot_offset()
    strays = []
    for job_id, processes in found.items():
        first = _first(processes)
        began = first.start_ticks / _TICKS - offset
        strays.append(Stray(job_id, state.attempt_of(job_id), first.sid, first.pid, began))
    return strays


def unrecorded_run(state: WorkflowState, owner: Owner) -> r.RunStarted | None:
    """The first record of the run of a lock's owner, where it was killed before that was written.

    The lock names the run: its nonce is what all processes of the run carry.

    Returns:
        None where it is on record, or nothing of it lives here.
    """
    here = own_identity()
    on_record = state.supervisor is not None and state.supervisor.record.nonce == owner.nonce
    if on_record or state.run_is_open or (owner.host, owner.boot_id) != (here.host, here.boot_id):
        return None
    if not carriers(owner.nonce):
        return None
    offset, keeper = round(clock.boot_offset(), 3), owner.keeper_pid
    return r.RunStarted(
        state.run_id, owner.host, owner.pid, owner.boot_id, offset, keeper_pid=keeper, nonce=owner.nonce
    )


def carriers(nonce: str, patience: float = UNREADABLE_AFTER) -> list[tuple[ProcessStat, marks.Mark]]:
    """Living processes that carry this nonce.

    Race: a job that was started a moment ago is just calling exec, or waits for a disk, and its environment cannot be
    read: it is asked again for a while, as what cannot be told whose it is would be killed in the end.
    Test: test_strays.py::test_p9_a_start_that_cannot_be_read_yet_is_found_all_the_same.

    Race: it leaves a daemon behind and ends, after the list of all processes was made and before it is looked at, or
    until it is asked again.  The daemon is in no list then.  So everything is looked at until nothing new is found.
    Tests: test_strays.py::test_p9_a_daemon_of_a_start_that_ended_before_it_could_be_read_is_found,
    test_strays.py::test_p9_a_daemon_of_a_start_that_ended_before_it_was_looked_at_is_found.

    Raises:
        OSError: the machine is full.
    """
    found: list[tuple[ProcessStat, marks.Mark]] = []
    told: set[tuple[int, int]] = set()  # pid and start of those that need not be asked again
    until = clock.monotonic() + patience
    looks = 0
    while True:
        looks += 1
        unread: dict[tuple[int, int], ProcessStat] = {}
        known = len(found)
        for about in procfs.everything():
            key = (about.pid, about.start_ticks)
            if key in told or about.pid == os.getpid() or about.sid <= 1:
                continue
            block = marks.environment_block(about) if about.alive else b""
            if block is None:
                unread[key] = about
                continue
            told.add(key)
            mark = marks.parse(block) if block else None
            if mark is not None and mark.nonce == nonce:
                found.append((about, mark))
        nothing_new = not unread and len(found) == known
        if looks > 1 and (nothing_new or clock.monotonic() >= until):
            return found
        told |= {key for key, about in unread.items() if not _is_ours_still(about)}
        if not unread.keys() <= told and clock.monotonic() < until:
            select.poll().poll(LOOK_AGAIN_AFTER * 1000)


def _is_ours_still(about: ProcessStat) -> bool:
    """Whether the same process is still there, and is not somebody else's."""
    now = procfs.stat(about.pid)
    return now is not None and now.start_ticks == about.start_ticks and procfs.is_of_our_user(about.pid)


def _first(processes: list[ProcessStat]) -> ProcessStat:
    """The one that the others descend from: the job's leader, or the oldest of what is left of its session."""
    pids = {about.pid for about in processes}
    return min(processes, key=lambda about: (about.ppid in pids, about.start_ticks, about.pid))
