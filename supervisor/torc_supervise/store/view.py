"""The JSON documents that ``status``, ``results``, ``jobs`` and ``list`` show, made from a WorkflowState."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torc_supervise.machine.allocations import Allocation, Allocations, AllocationState
from torc_supervise.machine.records import JobEnded
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.store.jsontext import dumps_text
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.model import Job, JobId, StdioMode

SHOWN_FIRST = 30  # jobs in the head of a status document
ROWS_AT_A_TIME = 1000
ALLOCATIONS_KEPT = 10  # that are over, in the same place
_OPEN = (AllocationState.QUEUED, AllocationState.RUNNING)


def status_head(
    state: WorkflowState, files: WorkflowFiles, supervisor: dict[str, Any] | None
) -> dict[str, Any]:
    """The status document without its ``jobs``: everything whose size does not grow with the number of jobs."""
    return {
        "workflow_id": state.workflow_id,
        "name": state.workflow.name,
        "user": state.workflow.user,
        "description": state.workflow.description,
        "run_id": state.run_id,
        "state": state.state.value,
        "created": state.created_at,
        "directory": files.directory,
        "supervisor": supervisor,
        "allocations": [allocation_row(found) for found in _shown(state.allocations)],
        "jobs_by_status": {status.value: count for status, count in state.counts.items()},
        "jobs_total": len(state.workflow.jobs),
        "warnings": [{"t": t, "code": w.code, "message": w.message} for t, w in state.warnings],
        "first_jobs": [job_row(state, files, job) for job in _most_interesting(state)],
    }


def allocation_row(allocation: Allocation) -> dict[str, Any]:
    """One entry of ``allocations``, as far as the journal knows; see :mod:`torc_supervise.operations.whereabouts`."""
    record = allocation.submitted
    return {
        "slurm_job_id": allocation.slurm_job_id,
        "state": allocation.state.value,
        "since": allocation.since,
        "scheduler": record.scheduler if record else None,
        "why": record.why if record else None,
        "after": record.after if record else None,
        "auto_resubmit": record.auto_resubmit if record else None,
        "cluster": record.cluster if record else None,
        "script": record.script if record else None,
        "output": record.output if record else None,
        "error": record.error if record else None,
        "message": allocation.message,
    }


def _shown(allocations: Allocations) -> list[Allocation]:
    """Those that may still be something, and the last few of the others."""
    known = list(allocations)
    over = len(known) - ALLOCATIONS_KEPT
    return [found for number, found in enumerate(known) if number >= over or found.state in _OPEN]


def status_document(
    state: WorkflowState, files: WorkflowFiles, supervisor: dict[str, Any] | None
) -> Iterator[bytes]:
    """The whole status document as JSON, piece by piece: its head on the first line, then one line per job.

    It says how things are now, however long the caller takes: of 100,000 jobs it has 48 MB.  A reader that only wants
    the head reads one line; see :func:`torc_supervise.store.snapshot.head_of`.
    """
    head = dumps_text(status_head(state, files, supervisor))
    return _pieces(head, state.still(), files)


def _pieces(head: bytes, state: WorkflowState, files: WorkflowFiles) -> Iterator[bytes]:
    yield head[:-1] + b',"jobs":[\n'
    jobs = state.workflow.jobs
    for first in range(0, len(jobs), ROWS_AT_A_TIME):
        rows = _rows(state, files, jobs[first : first + ROWS_AT_A_TIME])
        yield b",\n" + rows if first else rows
    yield b"\n]}\n"


def _rows(state: WorkflowState, files: WorkflowFiles, jobs: Sequence[Job]) -> bytes:
    """Many in one call: a call for each takes ten times as long.  All of them would take much memory for a moment.

    In no text of JSON is there a bare quotation mark, so what is replaced begins rows and nothing else.
    """
    rows = dumps_text([job_row(state, files, job) for job in jobs])
    return rows[1:-1].replace(b'},{"job_id":', b'},\n{"job_id":')


def last_document(state: WorkflowState, files: WorkflowFiles) -> Iterator[bytes]:
    """The status document of a workflow that nobody runs any more."""
    return status_document(state, files, supervisor_fields(state, alive=False))


def supervisor_fields(state: WorkflowState, *, alive: bool) -> dict[str, Any] | None:
    """``supervisor`` of the status document; None if the workflow was never run."""
    info = state.supervisor
    if info is None:
        return None
    record = info.record
    return {
        "host": record.host,
        "pid": record.pid,
        "alive": alive,
        "slurm_job_id": record.slurm_job_id,
        "end_time": record.end_time,
        "started": info.started_at,
        "exit_code": info.ended.exit_code if info.ended else None,
        "killed": info.ended is not None and info.ended.exit_code is None,
    }


def job_row(state: WorkflowState, files: WorkflowFiles, job: Job) -> dict[str, Any]:
    """One entry of ``jobs``."""
    job_id = job.job_id
    live = state.live.get(job_id)
    ended = state.results.get(job_id)
    result = ended[1] if ended is not None and live is None else None
    started = live.started if live is not None else None
    attempt_id = started.attempt_id if started else result.attempt_id if result else None
    run_id = started.run_id if started else result.run_id if result else None
    row = {
        "job_id": job_id,
        "name": job.name,
        "status": state.status[job_id].value,
        "run_id": run_id,
        "attempt_id": attempt_id,
        "pid": started.pid if started else None,
        "pgid": started.pgid if started else None,
        "start_time": live.start_time if live else result.start_time if result else None,
        "completion_time": ended[0] if ended is not None and result else None,
        "exec_time_seconds": result.exec_time_seconds if result else None,
        "return_code": result.return_code if result else None,
        "signal": result.signal if result else None,
        "ended": result.ended if result else None,
        "why": result.why if result else None,
        "depends_on": [state.job(d).name for d in job.depends_on],
        "supports_termination": job.supports_termination,
    }
    if result is not None and result.checkpoint is not None:
        row["checkpoint"] = result.checkpoint
        row["checkpoint_saved"] = result.checkpoint_saved
    row |= stdio_fields(state, files, job, run_id, attempt_id)
    return row


def stdio_fields(
    state: WorkflowState, files: WorkflowFiles, job: Job, run_id: int | None, attempt_id: int | None
) -> dict[str, str | None]:
    """Absolute paths of the job's stdout and stderr files; None where it has none."""
    if run_id is None or attempt_id is None:
        return {"stdout": None, "stderr": None}
    mode = job.stdio or state.workflow.execution.stdio
    out, err = stdio_paths(files, mode, job.job_id, run_id, attempt_id)
    return {"stdout": out, "stderr": err}


def stdio_paths(
    files: WorkflowFiles, mode: StdioMode, job_id: JobId, run_id: int, attempt_id: int
) -> tuple[str | None, str | None]:
    """stdout's and stderr's file of an attempt: the same one in mode ``combined``, None where there is none."""
    out = files.stdio(job_id, run_id, attempt_id, "log" if mode == "combined" else "o")
    err = out if mode == "combined" else files.stdio(job_id, run_id, attempt_id, "e")
    return None if mode in ("no_stdout", "none") else out, None if mode in ("no_stderr", "none") else err


def result_row(state: WorkflowState, files: WorkflowFiles, t: str, result: JobEnded) -> dict[str, Any]:
    """One entry of ``results``: everything the record says, under the names of Torc."""
    job = state.jobs[result.job_id] if result.job_id < len(state.jobs) else None
    seconds = result.exec_time_seconds
    row = {
        "job_id": result.job_id,
        "job_name": job.name if job is not None else state.removed.get(result.job_id),
        "run_id": result.run_id,
        "attempt_id": result.attempt_id,
        "status": result.status,
        "return_code": result.return_code,
        "signal": result.signal,
        "ended": result.ended,
        "why": result.why,
        "exec_time_minutes": None if seconds is None else seconds / 60,
        "exec_time_seconds": seconds,
        "start_time": result.start_time,
        "completion_time": t,
        "max_rss_bytes": result.max_rss_bytes,
        "max_rss_is_bound": bool(result.max_rss_is_bound),
        "user_cpu_seconds": result.user_cpu_seconds,
        "system_cpu_seconds": result.system_cpu_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "avg_memory_bytes": result.avg_memory_bytes,
        "peak_cpu_percent": result.peak_cpu_percent,
        "avg_cpu_percent": result.avg_cpu_percent,
        "leftovers": result.leftovers,
        "missing_outputs": list(result.missing_outputs or ()),
        "checkpoint": result.checkpoint,
        "checkpoint_saved": result.checkpoint_saved,
        "error": result.error,
    }
    if job is not None:
        row |= stdio_fields(state, files, job, result.run_id, result.attempt_id)
    return row


def _most_interesting(state: WorkflowState) -> Iterable[Job]:
    """What a person looks for first: what runs, then what went wrong; in a small workflow everything."""
    if len(state.workflow.jobs) <= SHOWN_FIRST:
        return state.workflow.jobs
    chosen = [state.job(job_id) for job_id in sorted(state.live)[:SHOWN_FIRST]]
    for status in (Status.TERMINATED, Status.FAILED):
        if state.counts[status] and len(chosen) < SHOWN_FIRST:
            more = (job for job in state.workflow.jobs if state.status[job.job_id] is status)
            chosen += [job for job, _ in zip(more, range(SHOWN_FIRST - len(chosen)), strict=False)]
    return chosen
