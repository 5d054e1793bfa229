"""Reinitialize: which jobs have to run again, and why (TORC.md 5.3)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise import __version__
from torc_supervise.errors import TorcError, WorkflowBusy
from torc_supervise.helpers.last_will import WHY as SUPERVISOR_DIED
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Ended, Status, StopReason
from torc_supervise.operations import liveness
from torc_supervise.operations.lookup import replay
from torc_supervise.operations.opened import OpenWorkflow, files_seen
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import read_owner
from torc_supervise.workflow.actions import renumbered
from torc_supervise.workflow.model import Job, JobId, Workflow

MTIME_TOLERANCE_NS = 10_000_000  # as Torc: file servers round
_DONE = (Status.COMPLETED, Status.FAILED, Status.CANCELED)


class ReinitializePlan(Struct, frozen=True):
    """What would be done.  ``reset``: job id -> reason, in id order; ``missing_inputs``: (name, path).

    ``run_id``: of the run that it begins, or of the one that there is, where there is nothing to do.
    """

    run_id: int
    reset: dict[JobId, str]
    missing_inputs: tuple[tuple[str, str], ...]
    files_seen: dict[str, int] = {}
    updated: Workflow | None = None


def missing_inputs(workflow: Workflow, seen: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    """Files that some job reads, no job makes, and that are not there."""
    made = {name for job in workflow.jobs for name in job.output_files}
    read = dict.fromkeys(name for job in workflow.jobs for name in job.input_files)
    return tuple((name, workflow.files[name]) for name in read if name not in made and name not in seen)


def plan_reinitialize(state: WorkflowState, updated: Workflow | None = None) -> ReinitializePlan:
    """Look at statuses and at the declared files.

    Args:
        updated: a new version of the specification, whose jobs are matched by name; see :func:`take_over_ids`.
    """
    updated = None if updated == state.workflow else updated
    workflow = updated or state.workflow
    seen = files_seen(workflow)
    reset: dict[JobId, str] = {}
    made = {name for job in workflow.jobs for name in job.output_files}
    before = {job.job_id: job for job in state.workflow.jobs}
    for job in workflow.jobs:
        old = before.get(job.job_id)
        reason = _new_or_changed(old, job, state.workflow, workflow) if updated is not None else None
        if reason is None and old is not None:
            reason = _status_reason(state, job) or _file_reason(state, job, seen, made)
        if reason is not None:
            reset[job.job_id] = reason
    _add_dependents(state, workflow, reset)
    _add_readers_of_changed_outputs(state, workflow, seen, reset)
    _add_dependents(state, workflow, reset)
    missing = missing_inputs(workflow, seen)
    begins = bool(reset) or updated is not None or state.canceled or _sees_other_files(state, seen)
    return ReinitializePlan(state.run_id + begins, dict(sorted(reset.items())), missing, seen, updated)


def reinitialize(opened: OpenWorkflow, plan: ReinitializePlan, *, force: bool = False) -> None:
    """Carry a plan out.  One with nothing to do writes nothing: results stay those of the newest run.

    Raises:
        TorcError: required input files are missing; nothing was changed (Torc bumps the run id first).
    """
    if plan.missing_inputs and not force:
        raise missing_inputs_error(plan.missing_inputs)
    if plan.run_id == opened.state.run_id:
        return
    records: list[r.Record] = []
    if plan.updated is not None:
        records.append(r.WorkflowUpdated(plan.updated.to_dict()))
    reset = {str(job_id): reason for job_id, reason in plan.reset.items()}
    records.append(r.Reinitialized(plan.run_id, reset, plan.files_seen))
    opened.append(*records)
    opened.write_snapshot()


def check_directory(state: WorkflowState, force: bool) -> None:
    """Refuse to go on elsewhere: relative paths would lead to other files, and completed work would run again.

    Raises:
        TorcError: this is not the directory that the workflow was submitted in.
    """
    there, here = state.directory, os.getcwd()
    if force or there is None or here == there:
        return
    try:
        if os.path.samefile(here, there):  # one place may have two names
            return
        way = f"cd {shlex.quote(there)} and try again there, or pass --force to look for its files here"
    except OSError:
        way = "that directory is not there; if it was moved to here, pass --force"
    raise TorcError(
        f"workflow {state.workflow_id} was submitted in {there}, and this is {here}: "
        "its relative paths mean other files here",
        way,
    )


def read_only(files: WorkflowFiles) -> WorkflowState:
    """The state that ``open_workflow`` would come to, with nothing locked, ended or written: for a dry run.

    Raises:
        WorkflowBusy: somebody works on it.
        JournalError, TorcError: the journal cannot be read.
    """
    owner = read_owner(files.lock)
    if owner is not None and liveness.lives(owner):
        raise WorkflowBusy(
            f"the workflow belongs to {owner.describe()}",
            "wait for it, or end it with 'torc-supervise cancel'",
        )
    state = replay(files)
    for live in list(
        state.live.values()
    ):  # its supervisor was lost; who opens it for writing records the same
        started = live.started
        lost = r.JobEnded(
            started.run_id,
            started.job_id,
            started.attempt_id,
            Status.TERMINATED.value,
            Ended.LOST.value,
            start_time=live.start_time,
        )
        state.apply(live.start_time, live.mono, lost)
    return state


def missing_inputs_error(missing: tuple[tuple[str, str], ...]) -> TorcError:
    listed = ", ".join(f"'{name}' ({path})" for name, path in missing)
    noun = "file" if len(missing) == 1 else "files"
    return TorcError(
        f"missing required input {noun}: {listed}",
        "make them, start from the directory that their paths are relative to, or pass --force",
    )


def take_over_ids(state: WorkflowState, new: Workflow) -> Workflow:
    """The new specification with the ids of the old one: a job keeps its id by its name.

    New jobs get ids that no job ever had: results and files of removed jobs stay theirs.
    """
    known = {job.name: job.job_id for job in state.workflow.jobs}
    free = max((*known.values(), *state.removed), default=0) + 1
    ids: dict[JobId, JobId] = {}
    for job in new.jobs:
        if job.name in known:
            ids[job.job_id] = known[job.name]
        else:
            ids[job.job_id], free = free, free + 1
    jobs = [
        replace(job, job_id=ids[job.job_id], depends_on=tuple(sorted(ids[d] for d in job.depends_on)))
        for job in new.jobs
    ]
    jobs.sort(key=lambda job: job.job_id)
    return replace(new, jobs=tuple(jobs), extra=renumbered(new.extra, ids))


def _sees_other_files(state: WorkflowState, seen: Mapping[str, int]) -> bool:
    """Whether what is still to run would find other files than those on record: they are then no change to it later."""
    return state.left_to_run > 0 and not seen.items() <= state.files_seen.items()


def _status_reason(state: WorkflowState, job: Job) -> str | None:
    status = state.status[job.job_id]
    result = state.results.get(job.job_id)
    if status is Status.TERMINATED:
        if result is not None and result[1].ended == Ended.LOST:
            return "its supervisor was lost while it ran"
        if result is not None and result[1].why == SUPERVISOR_DIED:
            return "its supervisor was lost, and it was ended"
        return "was terminated"
    if status is Status.UNINITIALIZED:
        return "was reset"
    if status is Status.CANCELED and result is not None and result[1].why == StopReason.CANCEL:
        return "was canceled while it ran"
    return None


def _file_reason(state: WorkflowState, job: Job, seen: Mapping[str, int], made: set[str]) -> str | None:
    if state.status[job.job_id] not in _DONE:
        return None
    for name in job.input_files:
        if name in made:
            continue  # see _add_readers_of_changed_outputs
        change = _change(state.files_seen.get(name), seen.get(name))
        if change is not None:
            return f"its input '{name}' ({state.workflow.files[name]}) has {change}"
    if state.status[job.job_id] is Status.COMPLETED:
        for name in job.output_files:
            if name not in seen:
                return f"its output '{name}' ({state.workflow.files[name]}) is missing"
    return None


def _add_readers_of_changed_outputs(
    state: WorkflowState, workflow: Workflow, seen: Mapping[str, int], reset: dict[JobId, str]
) -> None:
    """Jobs that are done and read a file that was changed after its producer, which stays as it is, had made it.

    A producer's result says which files it left and when, so its own writing is no change; where it does not say (the
    file system did not answer in time), nothing can be compared.
    """
    producers = {name: job.job_id for job in workflow.jobs for name in job.output_files}
    for job in workflow.jobs:
        if job.job_id in reset or state.status[job.job_id] not in _DONE:
            continue
        for name in job.input_files:
            producer = producers.get(name)
            result = state.results.get(producer) if producer is not None else None
            if result is None or producer in reset or name not in (result[1].outputs_seen or {}):
                continue
            change = _change(state.files_seen.get(name), seen.get(name))
            if change is not None:
                reset[job.job_id] = f"its input '{name}' ({workflow.files[name]}) has {change}"
                break


def _change(before: int | None, now: int | None) -> str | None:
    if before is None and now is None:
        return None
    if before is None:
        return "appeared"
    if now is None:
        return "disappeared"
    return "changed" if abs(now - before) > MTIME_TOLERANCE_NS else None


def _new_or_changed(old: Job | None, new: Job, before: Workflow, after: Workflow) -> str | None:
    """What Torc hashes: command, dependencies, files, user_data and its contents; not requirements or env."""
    if old is None:
        return "is new"
    if (old.command, old.invocation_script) != (new.command, new.invocation_script):
        return "its command has changed"
    names = [{job.job_id: job.name for job in workflow.jobs} for workflow in (before, after)]
    if {names[0][d] for d in old.depends_on} != {names[1][d] for d in new.depends_on}:
        return "its dependencies have changed"
    for what in ("input_files", "output_files", "input_user_data", "output_user_data"):
        if set(getattr(old, what)) != set(getattr(new, what)):
            return f"its {what} have changed"
    for name in (*new.input_files, *new.output_files):
        if before.files.get(name) != after.files[name]:
            return f"the path of its file '{name}' has changed"
    for name in new.input_user_data:
        if before.user_data.get(name) != after.user_data.get(name):
            return f"its user_data '{name}' has changed"
    return None


def _add_dependents(state: WorkflowState, workflow: Workflow, reset: dict[JobId, str]) -> None:
    """Jobs that are done and depend on one that runs again; those that wait for it need no telling."""
    names = {job.job_id: job.name for job in workflow.jobs}
    dependents: dict[JobId, list[JobId]] = {}
    for job in workflow.jobs:
        for dependency in job.depends_on:
            dependents.setdefault(dependency, []).append(job.job_id)
    stack = list(reset)
    while stack:
        cause = stack.pop()
        for job_id in dependents.get(cause, ()):
            if job_id not in reset and job_id < len(state.status) and state.status[job_id] in _DONE:
                reset[job_id] = f"depends on '{names[cause]}', which runs again"
                stack.append(job_id)


def first_record(workflow: Workflow, workflow_id: int) -> r.WorkflowCreated:
    """The journal's first record of a new workflow."""
    here = os.getcwd()
    if not here.isprintable():
        here = ""  # bytes that are no UTF-8: JSON cannot say them, so they could never be compared
    return r.WorkflowCreated(
        r.SCHEMA_VERSION, workflow_id, workflow.to_dict(), files_seen(workflow), __version__, here or None
    )
