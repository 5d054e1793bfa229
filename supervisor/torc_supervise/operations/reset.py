"""reset-status: put jobs back to uninitialized, so that they run again (TORC.md 5.2)."""

from __future__ import annotations

from torc_supervise.machine.records import StatusReset
from torc_supervise.machine.status import Status
from torc_supervise.operations.opened import OpenWorkflow

_FAILED = (Status.FAILED, Status.CANCELED, Status.TERMINATED, Status.PENDING_FAILED)


def reset_status(opened: OpenWorkflow, *, failed_only: bool) -> list[str]:
    """Reset all jobs, or those that failed, were canceled or terminated, each with its dependents.

    Returns:
        the names of the jobs that were reset, in id order.
    """
    state = opened.state
    chosen = [
        job.job_id for job in state.workflow.jobs if not failed_only or state.status[job.job_id] in _FAILED
    ]
    job_ids = tuple(sorted(state.with_dependents(chosen)))
    if job_ids:
        opened.append(StatusReset(job_ids))
        opened.write_snapshot()
    return [state.job(job_id).name for job_id in job_ids]
