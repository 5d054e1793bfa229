"""Submit: queue the allocations that a workflow asks for at its start.

Order, against races: the workflow is locked, a job of an interrupted submission is looked for, the script is written,
sbatch takes it, its id is recorded, the lock is released.  A job that starts at once finds the lock held by ``submit``
and waits for it (operations.patience), so it always finds its record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from torc_supervise.errors import WorkflowBusy
from torc_supervise.machine import records as r
from torc_supervise.machine.allocations import Allocation, AllocationState
from torc_supervise.machine.orders import jobs_text
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.operations import reinitialize as again
from torc_supervise.operations.allocation_plan import (
    Say,
    SubmitOptions,
    Wanted,
    check,
    jobs_of,
    plan_allocations,
)
from torc_supervise.operations.opened import OpenWorkflow, create_workflow, files_seen, open_workflow
from torc_supervise.operations.start import by_name, needs_reinitialize, still_to_run, summary
from torc_supervise.slurm import batch, jobs, submission
from torc_supervise.slurm.batch import BatchScript
from torc_supervise.slurm.commands import SlurmRefused, SlurmUnreachable, find, patiently
from torc_supervise.store import layout
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.model import Job, Workflow


class SubmittedAllocation(Struct, frozen=True):
    """One batch job.  Paths are absolute; ``adopted``: an earlier submission queued it and could not note it down."""

    slurm_job_id: str
    scheduler: str
    script: str
    output: str
    name: str
    after: str | None = None
    adopted: bool = False


class Submitted(Struct, frozen=True):
    """What was done.  No ``allocations`` where nothing is left to run; ``reset``: job name -> why it runs again."""

    workflow_id: int
    name: str
    created: bool
    allocations: tuple[SubmittedAllocation, ...] = ()
    reset: dict[str, str] = {}


def submit_new(workflow: Workflow, output: str, options: SubmitOptions, say: Say) -> Submitted:
    """Create a workflow and queue its first allocation.  What can be refused is refused before anything is written.

    Raises:
        TorcError: Slurm is missing, a job can never fit, an input file is missing, sbatch refuses, ...
    """
    wanted = plan_allocations(workflow, options)
    _need_slurm()
    missing = again.missing_inputs(workflow, files_seen(workflow))
    if missing and not options.force:
        raise again.missing_inputs_error(missing)
    check(workflow, wanted, workflow.jobs, say)
    with create_workflow(output, lambda new: again.first_record(workflow, new), "submit", say) as opened:
        number = opened.state.workflow_id
        opened.write_snapshot()
        say(f"workflow {number} '{workflow.name}': {jobs_text(len(workflow.jobs))}")
        queued = _queue(opened, wanted, workflow.jobs, os.getcwd(), say)
        return Submitted(number, workflow.name, True, queued)


def submit_existing(output: str, workflow_id: int, options: SubmitOptions, say: Say) -> Submitted:
    """Queue an allocation that goes on with a workflow; terminated, interrupted and reset jobs become ready for it.

    Raises:
        WorkflowBusy: it is being run, or an allocation for it is queued.
        TorcError: as :func:`submit_new`.
    """
    files = layout.find(output, workflow_id)
    _need_slurm()
    with open_workflow(files, "submit", say) as opened:
        state = opened.state
        again.check_directory(state, options.force)
        adopted = _adopt(opened, say)
        if adopted:
            return Submitted(workflow_id, state.workflow.name, False, adopted)
        refuse_second(opened, say)
        found = again.plan_reinitialize(state)
        # Of one that was canceled before it ran nothing has to run again, and its next allocation would do nothing.
        plan = found if needs_reinitialize(state) or state.canceled else None
        if plan is None and found.reset:
            say(
                f"warning: {summary(by_name(state, found))}; "
                f"to do so: torc-supervise reinitialize {workflow_id}"
            )
        left = still_to_run(state, plan)
        if not left:
            return Submitted(workflow_id, state.workflow.name, False)
        wanted = plan_allocations(state.workflow, options)
        check(state.workflow, wanted, left, say)
        reset: dict[str, str] = {}
        if plan is not None:
            again.reinitialize(opened, plan, force=options.force)
            reset = by_name(state, plan)
            why = summary(reset) if reset else "it was canceled, and is not any more"
            say(f"run {state.run_id} of workflow {workflow_id} '{state.workflow.name}': {why}")
        if not state.counts[Status.READY]:
            return Submitted(workflow_id, state.workflow.name, False, reset=reset)
        queued = _queue(opened, wanted, left, _directory(state, options.force), say)
        return Submitted(workflow_id, state.workflow.name, False, queued, reset)


def dry_run(source: Workflow | int, output: str, options: SubmitOptions, say: Say) -> list[BatchScript]:
    """The scripts that would be submitted, in order.  Writes nothing, and does without Slurm.

    Args:
        source: a workflow that is to be created, or the id of an existing one.
    """
    if isinstance(source, int):
        files = layout.find(output, source)
        state = again.read_only(files)
        again.check_directory(state, options.force)
        workflow = state.workflow
        plan = again.plan_reinitialize(state) if needs_reinitialize(state) else None
        left: Sequence[Job] = still_to_run(state, plan)
        directory = _directory(state, options.force)
    else:
        workflow, left, directory = source, source.jobs, os.getcwd()
        files = layout.next_files(output)
    if not left:
        return []
    wanted = plan_allocations(workflow, options)
    check(workflow, wanted, left, say, ask_slurm=False)
    first = len(batch.existing_scripts(files)) + 1
    return [
        batch.make_script(
            workflow,
            files,
            directory,
            one.scheduler,
            jobs_of(workflow, one.scheduler, left),
            one.settings,
            n,
        )
        for n, one in enumerate(wanted, first)
    ]


def _need_slurm() -> None:
    for program in ("sbatch", "squeue"):
        find(program)


def _queue(
    opened: OpenWorkflow, wanted: Sequence[Wanted], left: Sequence[Job], directory: str, say: Say
) -> tuple[SubmittedAllocation, ...]:
    state, files, number = opened.state, opened.files, opened.state.workflow_id
    queued: list[SubmittedAllocation] = []
    for one in wanted:
        own = jobs_of(state.workflow, one.scheduler, left)
        script = batch.write_script(state.workflow, files, directory, one.scheduler, own, one.settings)
        after = queued[-1].slurm_job_id if queued else None
        try:
            answer = submission.submit(script, say, after=after)
        except SlurmRefused as error:
            raise SlurmRefused(
                error.message,
                f"mend the slurm_schedulers entry '{script.scheduler}' in the file, take it over with "
                f"'torc-supervise reinitialize {number} --spec FILE', then 'torc-supervise submit {number}'",
                said=error.said,
            ) from error
        except (SlurmUnreachable, KeyboardInterrupt):
            say(f"workflow {number} is there; 'torc-supervise submit {number}' goes on with submitting it")
            raise
        done = _allocation(files, answer.slurm_job_id, script.scheduler, script.path, script.name, after)
        _record(opened, done, one.settings.auto_resubmit, answer.cluster)
        queued.append(done)
        where = f" on cluster {answer.cluster}" if answer.cluster else ""
        say(
            f"submitted Slurm job name={script.name} with ID={answer.slurm_job_id}{where}; script {script.path}"
        )
    return tuple(queued)


def _adopt(opened: OpenWorkflow, say: Say) -> tuple[SubmittedAllocation, ...]:
    """Record jobs that an interrupted submission had queued: their scripts are there, and no record of them."""
    recorded = {found.submitted.script for found in opened.state.allocations if found.submitted is not None}
    scripts = [path for path in batch.existing_scripts(opened.files) if path not in recorded]
    unknown = [facts for facts in map(batch.read_facts, scripts) if facts is not None]
    adopted = []
    for clusters in dict.fromkeys(facts.clusters for facts in unknown):
        these = {facts.name: facts for facts in unknown if facts.clusters == clusters}
        for job in patiently(partial(jobs.named, these, clusters=clusters), say).values():
            if opened.state.allocations.get(job.job_id) is not None:
                continue
            facts = these[job.name]
            done = _allocation(
                opened.files, job.job_id, facts.scheduler, facts.path, facts.name, adopted=True
            )
            _record(opened, done, facts.auto_resubmit, clusters)
            adopted.append(done)
            say(f"Slurm job {job.job_id} was queued by a submission that did not end; it is noted down now")
    return tuple(adopted)


def refuse_second(opened: OpenWorkflow, say: Say) -> None:
    """One allocation at a time: ask Slurm about those that are queued, and note down which are gone.

    Raises:
        WorkflowBusy: one is queued or running.
        SlurmError: Slurm does not say.
    """
    queued = opened.state.allocations.queued
    # One whose supervisor has left is over, but for Slurm's own requeueing: then it waits for its next start.
    ended = [one for one in opened.state.allocations if one.state is AllocationState.ENDED][-1:]
    seen: dict[str, jobs.SlurmJob] = {}
    for cluster in dict.fromkeys(map(_cluster, (*queued, *ended))):
        ids = [one.slurm_job_id for one in (*queued, *ended) if _cluster(one) == cluster]
        seen |= patiently(partial(jobs.look, ids, clusters=cluster), say)
    alive = [job for one in ended if (job := seen.get(one.slurm_job_id)) is not None and job.is_queued]
    for found in queued:
        job = seen.get(found.slurm_job_id)
        if job is not None and (job.is_queued or job.is_running):
            alive.append(job)
            continue
        how = f"Slurm says {job.state}" if job is not None else "Slurm does not know it any more"
        say(f"Slurm job {found.slurm_job_id} did not run the workflow, and is over: {how}")
        opened.append(r.AllocationEnded(found.slurm_job_id, "gone", how))
    if not alive:
        return
    first, number = alive[0], opened.state.workflow_id
    why = f" ({first.reason})" if first.reason and first.is_queued else ""
    raise WorkflowBusy(
        f"workflow {number} has an allocation already: Slurm job {first.job_id} is {first.state}{why}, and a workflow "
        "has one at a time",
        f"'torc-supervise status {number}' shows it, 'scancel {first.job_id}' removes it from the queue",
    )


def _cluster(allocation: Allocation) -> str | None:
    return allocation.submitted.cluster if allocation.submitted is not None else None


def _allocation(
    files: WorkflowFiles,
    slurm_job_id: str,
    scheduler: str,
    script: str,
    name: str,
    after: str | None = None,
    *,
    adopted: bool = False,
) -> SubmittedAllocation:
    output = files.batch_output(slurm_job_id, "o")
    return SubmittedAllocation(slurm_job_id, scheduler, script, output, name, after, adopted)


def _record(opened: OpenWorkflow, done: SubmittedAllocation, auto_resubmit: int, cluster: str | None) -> None:
    opened.append(
        r.AllocationSubmitted(
            slurm_job_id=done.slurm_job_id,
            why="submit",
            scheduler=done.scheduler,
            script=done.script,
            output=done.output,
            error=opened.files.batch_output(done.slurm_job_id, "e"),
            after=done.after,
            auto_resubmit=auto_resubmit or None,
            cluster=cluster,
        )
    )
    opened.write_snapshot()


def _directory(state: WorkflowState, force: bool) -> str:
    """Where the supervisor is to run: --force from elsewhere means there."""
    return os.getcwd() if force or state.directory is None else state.directory
