"""Sync-status: record what became of allocations that vanished, and of the jobs that ran in them (TORC.md 5.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from torc_supervise.errors import TorcError
from torc_supervise.machine.records import AllocationEnded
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Ended
from torc_supervise.operations import liveness, whereabouts
from torc_supervise.operations.liveness import Life, Verdict
from torc_supervise.operations.lookup import replay
from torc_supervise.operations.opened import open_workflow
from torc_supervise.operations.whereabouts import Whereabouts
from torc_supervise.store import layout, view
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import read_owner

Say = Callable[[str], None]


class LostJob(Struct, frozen=True):
    """A job that ran when its supervisor vanished.

    ``slurm_job_id``: of the allocation it was in, if any.  ``ended``: "lost", or as it was ended, where it still ran.
    """

    job_id: int
    name: str
    reason: str
    slurm_job_id: str | None
    ended: str = Ended.LOST.value


class Synced(Struct, frozen=True):
    """What was recorded, or would be.

    ``over``: Slurm job id -> what Slurm says of it, of allocations that were on record as queued or running and are not
    in the queue any more; ``queued``, ``running``: those that are.  ``in_use``: who works on the workflow, where that
    kept it from being changed.  ``ended_run``: a run that was never ended and whose supervisor is gone.
    """

    workflow_id: int
    over: dict[str, str]
    queued: tuple[str, ...]
    running: tuple[str, ...]
    lost: tuple[LostJob, ...]
    in_use: str | None = None
    ended_run: int | None = None


def sync_status(output: str, workflow_id: int, say: Say, *, dry_run: bool = False) -> Synced:
    """Ask Slurm about every allocation on record, and /proc about a supervisor on this host, and record what is gone.

    Jobs of a supervisor that is gone are recorded as ``lost``: ``terminated``, and ready after reinitialize, run or
    submit.

    Raises:
        TorcError: Slurm does not answer: nobody knows what became of them.
    """
    files = layout.find(output, workflow_id)
    state = replay(files)
    head = view.status_head(state, files, view.supervisor_fields(state, alive=state.run_is_open))
    seen = whereabouts.ask(head)
    if not seen.known:
        raise TorcError(
            f"nobody knows what became of Slurm {_jobs_text(seen.asked)}: {seen.problem}",
            "try again when Slurm answers",
        )
    verdict = _judge(files, state)
    over = {
        row["slurm_job_id"]: _slurms_word(seen, row["slurm_job_id"])
        for row in head["allocations"]
        if row["state"] in ("queued", "running") and seen.is_gone(row["slurm_job_id"])
    }
    orphaned = _is_orphaned(state, verdict)
    lost = _lost_jobs(state, verdict, dict.fromkeys(state.live, Ended.LOST.value)) if orphaned else ()
    ended_run = state.run_id if orphaned else None
    in_use = _in_use(files, verdict)
    # A run may have begun and not be on record yet: then the lock alone says so.
    if not dry_run and in_use is None and (over or orphaned or read_owner(files.lock) is not None):
        with open_workflow(files, "sync-status", say) as opened:  # records lost jobs by itself
            known = opened.state.allocations
            still = [known.get(job_id) for job_id in over]
            opened.append(
                *(
                    AllocationEnded(found.slurm_job_id, "gone", f"Slurm says: {over[found.slurm_job_id]}")
                    for found in still
                    if found is not None and found.state.value in ("queued", "running")
                )
            )
            opened.write_snapshot()
            ended_run = opened.ended_run
            # Its jobs may still have run here, and more of them than were on record.
            if ended_run is not None:
                lost = _lost_jobs(opened.state, verdict, {each.job_id: each.ended for each in opened.orphans})
    return Synced(workflow_id, over, tuple(seen.queued), tuple(seen.running), lost, in_use, ended_run)


def _judge(files: WorkflowFiles, state: WorkflowState) -> Verdict:
    """Of whoever runs the workflow; where nothing says that somebody does, dead is what that is."""
    owner = read_owner(files.lock)
    if owner is None:
        return Verdict(Life.DEAD, "whose lock is gone" if state.run_is_open else "")
    return liveness.judge(owner)


def _in_use(files: WorkflowFiles, verdict: Verdict) -> str | None:
    owner = read_owner(files.lock)
    if owner is None or verdict.life in (Life.DEAD, Life.LOST):
        return None
    return f"{owner.describe()}{', ' + verdict.why if verdict.why else ''}"


def _is_orphaned(state: WorkflowState, verdict: Verdict) -> bool:
    """Its run was never ended, and nobody is there to end it."""
    return state.run_is_open and verdict.life in (Life.DEAD, Life.LOST)


def _lost_jobs(state: WorkflowState, verdict: Verdict, ended: Mapping[int, str]) -> tuple[LostJob, ...]:
    info = state.supervisor
    assert info is not None
    slurm_job_id = info.record.slurm_job_id
    reason = f"it ran under a supervisor on {info.record.host} {verdict.why}".rstrip()
    return tuple(
        LostJob(job_id, state.job(job_id).name, reason, slurm_job_id, ended[job_id])
        for job_id in sorted(ended)
    )


def _slurms_word(seen: Whereabouts, slurm_job_id: str) -> str:
    job = seen.jobs.get(slurm_job_id)
    return "it does not know this job any more" if job is None else job.state


def _jobs_text(slurm_job_ids: tuple[str, ...]) -> str:
    return f"{'job' if len(slurm_job_ids) == 1 else 'jobs'} {', '.join(slurm_job_ids)}"
