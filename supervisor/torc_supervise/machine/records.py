"""Records: the facts that the journal keeps.

A record is what happened, as plain data; :class:`~torc_supervise.machine.state.WorkflowState` is what follows
from all records so far.  The live program and a reader of the journal fold the same records with the same code,
so what the program knows and what it wrote cannot differ.

``event`` names are part of the file format (docs/events.md): they may be added, never renamed.  Times of a record
(wall clock for people, monotonic for machines) are stamped on it when it is written, see ``store.journal``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

SCHEMA_VERSION = 1


class WorkflowCreated(Struct, frozen=True, gc=False):
    """First line of every journal.  ``workflow`` is ``Workflow.to_dict()``; ``files_seen`` name -> mtime in ns.

    ``directory``: where it was submitted; relative paths of the workflow start there.
    """

    event: ClassVar[str] = "workflow_created"
    schema: int
    workflow_id: int
    workflow: dict[str, Any]
    files_seen: dict[str, int] | None = None
    version: str | None = None
    directory: str | None = None


class WorkflowUpdated(Struct, frozen=True, gc=False):
    """The specification was replaced; jobs keep the status of the job with the same name."""

    event: ClassVar[str] = "workflow_updated"
    workflow: dict[str, Any]


class RunStarted(Struct, frozen=True, gc=False):
    """A supervisor took the workflow up.  ``boot_offset``: CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds."""

    event: ClassVar[str] = "run_started"
    run_id: int
    host: str
    pid: int
    boot_id: str | None = None
    boot_offset: float | None = None
    slurm_job_id: str | None = None
    end_time: str | None = None  # UTC, when the allocation ends, if known
    num_cpus: int | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None
    max_parallel_jobs: int | None = None
    keeper_pid: int | None = None
    mode: str | None = None  # "slurm" where jobs are job steps; None: direct
    nodes: tuple[str, ...] | None = None  # of the allocation, where there is one
    scheduler: str | None = None  # the slurm_schedulers entry that the allocation was asked for by
    auto_resubmit: int | None = None  # how many further allocations it may queue by itself
    nonce: str | None = None  # TORC_RUN_NONCE of its jobs
    cgroup: str | None = None  # directory with a cgroup for each job, where we could make one


class JobStarted(Struct, frozen=True, gc=False):
    event: ClassVar[str] = "job_started"
    run_id: int
    job_id: int
    attempt_id: int
    pid: int
    pgid: int
    gpus: tuple[int, ...] | None = None
    nodes: tuple[str, ...] | None = (
        None  # of its job step; pid and pgid are those of the step's leader, on ``host``
    )
    cgroup: str | None = None  # below the run's; another attempt may get it when this one's end is on record


class JobSignaled(Struct, frozen=True, gc=False):
    """A job was sent its termination signal or SIGKILL.  ``why`` is a StopReason."""

    event: ClassVar[str] = "job_signaled"
    run_id: int
    job_id: int
    attempt_id: int
    pgid: int
    signal: str
    why: str


class JobEnded(Struct, frozen=True, gc=False):
    """The one result of an attempt.  Seconds are monotonic differences; rusage covers what the leader waited for.

    ``return_code`` is the exit code, 128+n for death by signal n, or the configured code where a limit ended it;
    None where nobody saw it (``lost``, ``unkillable``).
    """

    event: ClassVar[str] = "job_ended"
    run_id: int
    job_id: int
    attempt_id: int
    status: str
    ended: str
    return_code: int | None = None
    signal: str | None = None
    why: str | None = None  # the StopReason, where it was asked to end
    start_time: str | None = None
    exec_time_seconds: float | None = None
    max_rss_bytes: int | None = None
    max_rss_is_bound: bool | None = None  # true: no more than this; the figure is the supervisor's own
    user_cpu_seconds: float | None = None
    system_cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    avg_memory_bytes: int | None = None
    peak_cpu_percent: float | None = None
    avg_cpu_percent: float | None = None
    leftovers: int | None = None  # members of the group that outlived the leader, if any
    missing_outputs: tuple[str, ...] | None = None
    outputs_seen: dict[str, int] | None = None  # name -> mtime in ns
    checkpoint: str | None = None
    checkpoint_saved: bool | None = None  # was the declared checkpoint replaced after the signal?
    error: str | None = None  # why it could not be started


class JobsCanceled(Struct, frozen=True, gc=False):
    """Announces dependents that will not run.  Readers derive the same from the ``job_ended`` before it."""

    event: ClassVar[str] = "jobs_canceled"
    run_id: int
    because: int  # job id
    job_ids: tuple[int, ...]


class SignalReceived(Struct, frozen=True, gc=False):
    event: ClassVar[str] = "signal_received"
    run_id: int
    signal: str
    count: int | None = None  # how often it was seen since the last such record, where that is more than once


class TerminationStarted(Struct, frozen=True, gc=False):
    """From here on nothing new starts.  ``asked``: jobs told to save; ``killed``: jobs that cannot."""

    event: ClassVar[str] = "termination_started"
    run_id: int
    why: str
    asked: int
    killed: int
    signal: str | None = None
    wait_seconds: float | None = None


class WorkflowCanceled(Struct, frozen=True, gc=False):
    event: ClassVar[str] = "workflow_canceled"
    run_id: int


class Warned(Struct, frozen=True, gc=False):
    """Something a person should know.  ``code`` is stable (docs/events.md), ``message`` is for reading."""

    event: ClassVar[str] = "warning"
    run_id: int
    code: str
    message: str
    job_id: int | None = None


class RunEnded(Struct, frozen=True, gc=False):
    event: ClassVar[str] = "run_ended"
    run_id: int
    state: str
    exit_code: int | None = None  # None: the supervisor was killed, and somebody else ended its run


class Reinitialized(Struct, frozen=True, gc=False):
    """A new run begins.  ``reset``: job id (as text, JSON keys are) -> why it has to run again."""

    event: ClassVar[str] = "workflow_reinitialized"
    run_id: int
    reset: dict[str, str]
    files_seen: dict[str, int] | None = None


class StatusReset(Struct, frozen=True, gc=False):
    """These jobs were put back to ``uninitialized``."""

    event: ClassVar[str] = "status_reset"
    job_ids: tuple[int, ...]


class EndChanged(Struct, frozen=True, gc=False):
    """The end of the allocation is another one than was known: found out late, or changed by somebody."""

    event: ClassVar[str] = "end_changed"
    run_id: int
    end_time: str | None = None  # UTC; None: there is no limit any more


class AllocationSubmitted(Struct, frozen=True, gc=False):
    """A batch job for this workflow was queued.  ``why``: submit, action or auto_resubmit."""

    event: ClassVar[str] = "allocation_submitted"
    slurm_job_id: str
    why: str
    scheduler: str | None = None  # name of the slurm_schedulers entry
    script: str | None = None  # path
    output: str | None = None  # path of the batch job's stdout
    error: str | None = None  # path of its stderr
    after: str | None = None  # Slurm job id that it waits for
    auto_resubmit: int | None = None
    cluster: str | None = None


class AllocationEnded(Struct, frozen=True, gc=False):
    """A queued batch job will not run, or one that ran is known to be gone.  ``how``: canceled, gone, finished."""

    event: ClassVar[str] = "allocation_ended"
    slurm_job_id: str
    how: str
    message: str | None = None


class ActionTaken(Struct, frozen=True, gc=False):
    """An entry of ``actions`` was carried out, or failed.  ``action``: its position, from 0."""

    event: ClassVar[str] = "action_taken"
    run_id: int
    action: int
    trigger: str
    ok: bool
    message: str | None = None


Record = (
    WorkflowCreated
    | WorkflowUpdated
    | RunStarted
    | JobStarted
    | JobSignaled
    | JobEnded
    | JobsCanceled
    | SignalReceived
    | TerminationStarted
    | WorkflowCanceled
    | Warned
    | RunEnded
    | Reinitialized
    | StatusReset
    | EndChanged
    | AllocationSubmitted
    | AllocationEnded
    | ActionTaken
)

RECORD_TYPES: dict[str, type[Record]] = {cls.event: cls for cls in Record.__args__}
