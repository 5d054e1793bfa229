"""Cancel: end what runs of a workflow, take back what is queued, and say that it is not to go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from torc_supervise.errors import TorcError, WorkflowBusy
from torc_supervise.machine.records import AllocationEnded, Record, WorkflowCanceled
from torc_supervise.operations import whereabouts
from torc_supervise.operations.lookup import ask, look_up
from torc_supervise.operations.opened import open_workflow
from torc_supervise.operations.whereabouts import Whereabouts
from torc_supervise.posix import clock, host
from torc_supervise.slurm import cancel as slurm
from torc_supervise.slurm.commands import SlurmError
from torc_supervise.store import layout, requests
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import read_owner
from torc_supervise.store.requests import CancelRequest

LOOKS_WITHIN = 30
"""Seconds, for people: a supervisor finds a request in this time without any signal (helpers.outside.LOOK_EVERY)."""

Say = Callable[[str], None]


class Canceled(Struct, frozen=True):
    """``asked``: a live supervisor was asked and ends ``running`` jobs; otherwise nothing was running.

    ``through``: how it was asked: "control" (its socket on this host), "slurm" (a signal to its allocation), or "file"
    (it finds the request within half a minute).  ``allocations``: Slurm job ids that were canceled.
    """

    workflow_id: int
    asked: bool
    running: int
    through: str | None = None
    allocations: tuple[str, ...] = ()


def cancel(output: str, workflow_id: int, say: Say) -> Canceled:
    """Take queued allocations back, then ask the live supervisor, or note it in the journal where nothing runs.

    Queued ones come first: one that waits for the running one would start when that ends.

    Raises:
        TorcError: it runs as another user, its supervisor does not answer, or Slurm does not and something is queued.
    """
    files = layout.find(output, workflow_id)
    head = look_up(output, workflow_id, with_jobs=False).head
    seen = whereabouts.ask(head)
    supervisor = head.get("supervisor") or {}
    alive = bool(supervisor.get("alive")) and not _is_gone(files, head, seen)
    _check_owner(files, supervisor, alive=alive)
    if not seen.known and not alive:
        raise TorcError(
            f"nobody knows whether allocations of workflow {workflow_id} are queued: {seen.problem}",
            f"try again later, or end them with 'scancel {' '.join(seen.asked)}'",
        )
    taken_back = _take_back(seen, say)
    if alive:
        through = _ask_supervisor(files, supervisor, seen, taken_back, say)
        return Canceled(workflow_id, True, head["jobs_by_status"]["running"], through, taken_back)
    if seen.running:
        return _cancel_what_starts(files, seen, taken_back, say)
    with open_workflow(files, "cancel", say) as opened:
        if opened.state.outcome().value == "completed":
            raise TorcError(f"workflow {workflow_id} is completed; there is nothing to cancel")
        opened.append(*_ended(taken_back), WorkflowCanceled(opened.state.run_id))
        opened.write_snapshot()
    return Canceled(workflow_id, False, 0, allocations=taken_back)


def _is_gone(files: WorkflowFiles, head: dict[str, Any], seen: Whereabouts) -> bool:
    """Of a supervisor on another host: its allocation is over, or its lock is gone since the last snapshot."""
    owner = read_owner(files.lock)
    if owner is None and head["supervisor"]["host"] != host.name():
        return True
    return whereabouts.supervisor_is_gone(head, seen, owner)


def _take_back(seen: Whereabouts, say: Say) -> tuple[str, ...]:
    """Cancel what is queued; returns the ids."""
    if not seen.known:
        say(f"warning: {seen.problem}; queued allocations, if there are any, are not canceled")
        return ()
    slurm.cancel(seen.queued)
    return tuple(seen.queued)


def _ask_supervisor(
    files: WorkflowFiles, supervisor: dict[str, Any], seen: Whereabouts, taken_back: tuple[str, ...], say: Say
) -> str:
    """Returns how it was asked."""
    if supervisor.get("host") == host.name():
        control = supervisor.get("control")
        if control and ask(control, {"ask": "cancel", "allocations": taken_back}):
            return "control"
        raise _no_answer(files, supervisor)
    owner = read_owner(files.lock)
    slurm_job_id = supervisor.get("slurm_job_id")
    _leave_request(files, owner.nonce if owner is not None else None, slurm_job_id, taken_back)
    if slurm_job_id is None or not (seen.known and whereabouts.squeue_is_here()):
        say(
            f"its supervisor, pid {supervisor['pid']} on {supervisor['host']}, finds it within {LOOKS_WITHIN} s"
        )
        return "file"
    try:
        slurm.nudge(slurm_job_id)
    except SlurmError as error:
        say(f"warning: {error.message}; its supervisor finds the request within {LOOKS_WITHIN} s")
        return "file"
    return "slurm"


def _cancel_what_starts(
    files: WorkflowFiles, seen: Whereabouts, taken_back: tuple[str, ...], say: Say
) -> Canceled:
    """An allocation has begun, and nobody has heard of a supervisor in it: it is about to start, or never will.

    Race: it starts while we look.  The request is there before the signal; whoever starts finds it and ends at once.
    Test: tests/cluster/test_outside.py::test_a_cancel_of_an_allocation_whose_supervisor_is_about_to_start.
    """
    for slurm_job_id in seen.running:
        _leave_request(files, None, slurm_job_id, taken_back)
        slurm.cancel([slurm_job_id])
    try:
        with open_workflow(files, "cancel", say) as opened:
            opened.append(*_ended((*taken_back, *seen.running)), WorkflowCanceled(opened.state.run_id))
            opened.write_snapshot()
    except WorkflowBusy:
        return Canceled(files.workflow_id, True, 0, "slurm", (*taken_back, *seen.running))
    return Canceled(files.workflow_id, False, 0, "slurm", (*taken_back, *seen.running))


def _leave_request(
    files: WorkflowFiles, lock: str | None, slurm_job_id: str | None, taken_back: tuple[str, ...]
) -> None:
    request = CancelRequest(lock, slurm_job_id, clock.wall(), host.name(), taken_back)
    try:
        requests.leave(files, request)
    except OSError as error:
        raise TorcError(f"cannot leave a request in {files.directory}: {error.strerror}") from error


def _ended(slurm_job_ids: Iterable[str]) -> list[Record]:
    return [AllocationEnded(slurm_job_id, "canceled") for slurm_job_id in slurm_job_ids]


def _check_owner(files: WorkflowFiles, supervisor: dict[str, Any], *, alive: bool) -> None:
    owner = os.stat(files.journal).st_uid
    if alive and owner != os.geteuid():
        who = f"workflow {files.workflow_id} is run by pid {supervisor['pid']} on {supervisor['host']}"
        raise WorkflowBusy(
            f"{who} as the user with id {owner}, and answers that user alone", "cancel it as that user"
        )


def _no_answer(files: WorkflowFiles, supervisor: dict[str, Any]) -> WorkflowBusy:
    pid = supervisor.get("pid")
    return WorkflowBusy(
        f"workflow {files.workflow_id} is run by pid {pid} on {supervisor.get('host')}, and its keeper does not answer",
        f"'kill -TERM {pid}' ends it gracefully; its jobs are then recorded as terminated, and not as canceled",
    )
