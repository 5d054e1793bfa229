"""Starting a run: from a file or from an existing workflow to :func:`torc_supervise.operations.run.run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from torc_supervise.errors import EXIT_OK
from torc_supervise.machine import records as r
from torc_supervise.machine.allocations import Allocation, AllocationState
from torc_supervise.machine.orders import jobs_text
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import SETTLED, Status, StopReason
from torc_supervise.operations import liveness
from torc_supervise.operations import reinitialize as again
from torc_supervise.operations.fit import check_fit
from torc_supervise.operations.isolation import check_isolation
from torc_supervise.operations.opened import OpenWorkflow, create_workflow, files_seen
from torc_supervise.operations.patience import open_when_free
from torc_supervise.operations.run import EXIT_CODES, RunReport, run
from torc_supervise.operations.steps import place_jobs
from torc_supervise.operations.surroundings import RunOptions, survey
from torc_supervise.store import layout, view
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.schedulers import runs_in

Say = Callable[[str], None]


class Started(Struct, frozen=True):
    """What a run came to, and what had to be reset before it."""

    report: RunReport
    output: str
    reset: dict[str, str]  # job name -> why it ran again
    first_jobs: list[dict[str, Any]]  # rows as in the status document
    created: bool


def run_new(
    workflow: Workflow, output: str, options: RunOptions, say: Say, *, force: bool = False
) -> Started:
    """Create a workflow and run it.  Everything that can be refused is refused before anything is written.

    Raises:
        TorcError: a job can never fit this machine, an input file is missing, the directory cannot be written.
    """
    machine = place_jobs(survey(options, say), workflow, options, say)
    here = list(filter(runs_in(workflow, options.scheduler), workflow.jobs))
    check_isolation(workflow, here, as_steps=machine.steps is not None)
    check_fit(here, machine.capacity, machine.time_left(options.time_limit))
    missing = again.missing_inputs(workflow, files_seen(workflow))
    if missing and not force:
        raise again.missing_inputs_error(missing)
    with create_workflow(output, lambda new: again.first_record(workflow, new), "run", say) as opened:
        say(f"workflow {opened.state.workflow_id} '{workflow.name}': {jobs_text(len(workflow.jobs))}")
        return _started(opened, run(opened, options, machine, say), {}, created=True)


def run_existing(
    output: str, workflow_id: int, options: RunOptions, say: Say, *, force: bool = False
) -> Started:
    """Go on with a workflow: terminated, interrupted and reset jobs become ready again by themselves.

    Raises:
        TorcError: as :func:`run_new`; also if somebody else runs it.
    """
    files = layout.find(output, workflow_id)
    with open_when_free(files, "run", say) as opened:
        state = opened.state
        again.check_directory(state, force)
        machine = place_jobs(survey(options, say), state.workflow, options, say)
        here = state.allocations.get(machine.allocation.job_id) if machine.allocation is not None else None
        if state.canceled and here is not None and _starts_by_itself(here):
            say(f"workflow {workflow_id} was canceled: nothing is to be run")
            return _started(opened, _nothing_to_run(opened, here), {}, created=False)
        found = again.plan_reinitialize(state)
        plan = found if needs_reinitialize(state) else None
        if plan is None and found.reset:
            say(
                f"warning: {summary(by_name(state, found))}; to do so: torc-supervise reinitialize {workflow_id}"
            )
        left = list(filter(runs_in(state.workflow, options.scheduler), still_to_run(state, plan)))
        check_isolation(state.workflow, left, as_steps=machine.steps is not None)
        check_fit(left, machine.capacity, machine.time_left(options.time_limit))
        reset: dict[str, str] = {}
        if plan is not None:
            again.reinitialize(opened, plan, force=force)
            reset = by_name(state, plan)
            say(f"run {state.run_id} of workflow {workflow_id} '{state.workflow.name}': {summary(reset)}")
        if not state.counts[Status.READY]:
            say(f"nothing of workflow {workflow_id} is left to run")
            return _started(opened, _nothing_to_run(opened, here), reset, created=False)
        return _started(opened, run(opened, options, machine, say), reset, created=False)


def _starts_by_itself(here: Allocation) -> bool:
    """This allocation was queued before, or Slurm has requeued it: nobody has asked for this run since the workflow was
    canceled, as 'submit', 'reinitialize' and a 'run' by hand do.
    """
    return here.state is AllocationState.QUEUED or liveness.restarts(os.environ) > 0


def needs_reinitialize(state: WorkflowState) -> bool:
    if state.counts[Status.TERMINATED] or state.counts[Status.UNINITIALIZED]:
        return True
    return any(result.why == StopReason.CANCEL for _, result in state.results.values())


def still_to_run(state: WorkflowState, plan: again.ReinitializePlan | None) -> list[Job]:
    """What has settled and is not reset needs no room any more."""
    reset = plan.reset if plan is not None else {}
    return [
        job for job in state.workflow.jobs if job.job_id in reset or state.status[job.job_id] not in SETTLED
    ]


def _nothing_to_run(opened: OpenWorkflow, here: Allocation | None) -> RunReport:
    """An allocation that finds nothing to do has not failed, whatever the workflow came to."""
    state, outcome = opened.state, opened.state.outcome()
    if here is not None and here.state is AllocationState.QUEUED:
        opened.append(r.AllocationEnded(here.slurm_job_id, "finished", "it found nothing to do"))
        opened.write_snapshot()
    code = EXIT_CODES[outcome] if here is None else EXIT_OK
    return RunReport(state.workflow_id, state.run_id, outcome, code, dict(state.counts))


def by_name(state: WorkflowState, plan: again.ReinitializePlan) -> dict[str, str]:
    return {state.job(job_id).name: reason for job_id, reason in plan.reset.items()}


def summary(reset: dict[str, str]) -> str:
    shown = [f"{name}: {reason}" for name, reason in list(reset.items())[:3]]
    more = len(reset) - len(shown)
    noun = "job has" if len(reset) == 1 else "jobs have"
    return f"{len(reset)} {noun} to run again ({'; '.join(shown)}{f'; and {more} more' if more else ''})"


def _started(opened: OpenWorkflow, report: RunReport, reset: dict[str, str], *, created: bool) -> Started:
    # From memory: the run is over and its allocation may be as well, no time to wait for a file system.
    rows = view.status_head(opened.state, opened.files, None)["first_jobs"]
    return Started(report, opened.files.output, reset, rows, created)
