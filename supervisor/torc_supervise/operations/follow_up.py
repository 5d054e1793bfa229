"""The errands of a run that come from its workflow's actions and from the chain of its allocations."""

from __future__ import annotations

import os

from torc_supervise.machine.action_errands import Actions, CommandPlace
from torc_supervise.machine.chain import Chain
from torc_supervise.machine.errands import Errand
from torc_supervise.machine.next_allocation import BatchPlace, NextAllocation
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.unneeded import Unneeded
from torc_supervise.operations.surroundings import RunOptions
from torc_supervise.posix.marks import NONCE
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.actions import actions_of
from torc_supervise.workflow.schedulers import runs_in


def follow_up(
    state: WorkflowState,
    files: WorkflowFiles,
    slurm_job_id: str | None,
    options: RunOptions,
    *,
    open_files: int | None,
    end_epoch: float | None,
    nonce: str,
) -> list[Errand]:
    """In the order in which they are told.

    Args:
        slurm_job_id: the allocation, None outside of one: nothing more is queued then.
        open_files: soft limit that commands return to, None to leave it.
        end_epoch: when everything is killed at the latest, seconds since 1970.
        nonce: of this run, for TORC_RUN_NONCE.
    """
    has_actions = bool(actions_of(state.workflow))
    place = command_place(state, files, open_files, end_epoch, nonce)
    batch = BatchPlace(files.output, state.workflow_id, options.max_parallel_jobs)
    if slurm_job_id is None:
        # One that was submitted before may wait in the queue for what this run does.
        queued = [Unneeded(NextAllocation(batch, "", None))] if state.allocations.queued else []
        return [*([Actions(place)] if has_actions else []), *queued]
    allocations = NextAllocation(batch, slurm_job_id, options.scheduler, options.auto_resubmit)
    chain = Chain(allocations, options.warning, runs_in(state.workflow, options.scheduler))
    actions = [Actions(place, allocations)] if has_actions else []
    return [*actions, chain, allocations, Unneeded(allocations)]


def command_place(
    state: WorkflowState, files: WorkflowFiles, open_files: int | None, end_epoch: float | None, nonce: str
) -> CommandPlace:
    """In the output directory, as in Torc; by the first four variables the processes of a run are known as its own."""
    environment = {
        "TORC_OUTPUT_DIR": files.output,
        "TORC_WORKFLOW_ID": str(state.workflow_id),
        "TORC_RUN_ID": str(state.run_id),
        NONCE: nonce,
        "TORC_WORKFLOW_SUBMISSION_DIR": os.getcwd(),
    }
    if end_epoch is not None:
        environment["TORC_END_TIME"] = f"{end_epoch:.0f}"
    return CommandPlace(files.output, files.actions_log, environment, open_files)
