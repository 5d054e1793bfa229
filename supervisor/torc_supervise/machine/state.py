"""WorkflowState: what follows from the records so far.

``apply`` is the only way the state changes, live and on reading a journal back.  It is pure and does a constant
amount of work per record, plus one step per edge of the dependency graph over a whole run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from torc_supervise.machine import records as r
from torc_supervise.machine import triggers
from torc_supervise.machine.allocations import Allocations
from torc_supervise.machine.live import LiveAttempt, SupervisorInfo
from torc_supervise.machine.results import Results
from torc_supervise.machine.status import SETTLED, RunState, Status
from torc_supervise.workflow.model import Job, JobId, Workflow


class WorkflowState:
    """The statuses, attempts and results of one workflow.

    Invariants (checked by :meth:`check`, in tests after every record):

    - ``counts[s]`` is the number of jobs with status ``s``.
    - ``live`` holds exactly the jobs whose status is ``running``.
    - ``unsettled[j]`` is the number of j's dependencies whose status is not in SETTLED.
    - a job with ``unsettled[j] > 0`` is neither ready nor running.
    """

    def __init__(self, workflow_id: int, workflow: Workflow) -> None:
        self.workflow_id = workflow_id
        self.run_id = 1
        self.supervisor: SupervisorInfo | None = None
        self.terminating: r.TerminationStarted | None = None
        self.canceled = False
        self.created_at: str | None = None
        self.directory: str | None = None  # where it was submitted
        self.removed: dict[JobId, str] = {}  # names of jobs that are gone; their ids are not used again
        self.files_seen: dict[str, int] = {}  # name -> mtime in ns, as of the last look
        self.live: dict[JobId, LiveAttempt] = {}
        self.results = Results()
        self.warnings: list[tuple[str, r.Warned]] = []
        self.newly_canceled: tuple[JobId, ...] = ()  # by the last record
        self.allocations = Allocations()
        self.actions_taken: dict[int, r.ActionTaken] = {}  # position in ``actions`` -> the last time
        self._install(workflow)
        self._initialize(job.job_id for job in workflow.jobs)

    # -- reading ------------------------------------------------------------------------------------------

    def job(self, job_id: JobId) -> Job:
        job = self.jobs[job_id]
        assert job is not None, job_id
        return job

    def ready_jobs(self) -> list[JobId]:
        return [job.job_id for job in self.workflow.jobs if self.status[job.job_id] is Status.READY]

    @property
    def left_to_run(self) -> int:
        """How many jobs have not settled, and are not disabled."""
        return len(self.workflow.jobs) - sum(self.counts[status] for status in (*SETTLED, Status.DISABLED))

    def attempt_of(self, job_id: JobId) -> int:
        """The attempt number that a start of this job in the current run gets."""
        return self.attempt[job_id] + 1 if self.attempt_run[job_id] == self.run_id else 1

    @property
    def run_is_open(self) -> bool:
        """A run was started and has not ended: it is going on, or its supervisor died."""
        return self.supervisor is not None and self.supervisor.ended is None

    @property
    def state(self) -> RunState:
        """What the workflow as a whole is doing, from the records alone."""
        if self.run_is_open:
            return RunState.TERMINATING if self.terminating is not None else RunState.RUNNING
        return self.outcome()

    def outcome(self) -> RunState:
        """What the workflow comes to if nothing more is run."""
        counts, total = self.counts, len(self.workflow.jobs)
        if counts[Status.COMPLETED] + counts[Status.DISABLED] == total:
            return RunState.COMPLETED
        if self.canceled:
            return RunState.CANCELED
        if counts[Status.TERMINATED]:
            return RunState.TERMINATED
        if counts[Status.UNINITIALIZED]:
            return RunState.READY  # they were reset: whoever runs it next begins with them
        if counts[Status.READY] or counts[Status.RUNNING]:
            return RunState.READY if self.supervisor is None else RunState.TERMINATED
        return RunState.FAILED

    def still(self) -> WorkflowState:
        """What is known of the jobs now, for a reader that takes its time; only to be read."""
        still = copy.copy(self)
        still.status, still.live, still.results = self.status.copy(), self.live.copy(), self.results.copy()
        return still

    # -- changing -----------------------------------------------------------------------------------------

    def apply(self, t: str, mono: float, record: r.Record) -> tuple[JobId, ...]:
        """Fold one record in.

        Args:
            t: wall time of the record, UTC ISO 8601.
            mono: the writer's monotonic clock, seconds.

        Returns:
            the ids of jobs that became ready by it, in id order.
        """
        handler = _HANDLERS.get(type(record))
        return handler(self, t, mono, record) if handler is not None else ()

    def _install(self, workflow: Workflow) -> None:
        """Build the index over a (new) workflow; statuses start as uninitialized."""
        size = max((job.job_id for job in workflow.jobs), default=0) + 1
        self.workflow = workflow
        self.jobs: list[Job | None] = [None] * size
        self.status: list[Status] = [Status.UNINITIALIZED] * size
        self.attempt = [0] * size  # number of the last attempt
        self.attempt_run = [0] * size  # the run it belonged to
        self.unsettled = [0] * size
        self.poisoned = bytearray(size)  # 1: some dependency failed or was canceled
        dependents: dict[JobId, list[JobId]] = {}
        for job in workflow.jobs:
            self.jobs[job.job_id] = job
            for dependency in job.depends_on:
                dependents.setdefault(dependency, []).append(job.job_id)
        self.dependents: list[tuple[JobId, ...]] = [()] * size
        for job_id, those in dependents.items():
            self.dependents[job_id] = tuple(those)
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.counts[Status.UNINITIALIZED] = len(workflow.jobs)

    def _set(self, job_id: JobId, status: Status) -> None:
        self.counts[self.status[job_id]] -= 1
        self.counts[status] += 1
        self.status[job_id] = status

    def _initialize(self, job_ids: Iterable[JobId]) -> tuple[JobId, ...]:
        """Give these jobs, and all jobs downstream of them, the status that their dependencies imply."""
        todo = self.with_dependents(job_ids)
        for job_id in todo:
            self._set(job_id, Status.UNINITIALIZED)
        became_ready = []
        for job_id in todo:
            dependencies = self.job(job_id).depends_on
            self.unsettled[job_id] = sum(self.status[d] not in SETTLED for d in dependencies)
            self.poisoned[job_id] = any(
                self.status[d] in (Status.FAILED, Status.CANCELED) for d in dependencies
            )
            self._set(job_id, Status.BLOCKED)
        for job_id in todo:
            if self.status[job_id] is Status.BLOCKED and self.unsettled[job_id] == 0:
                became_ready += self._unblock(job_id)
        return tuple(sorted(became_ready))

    def with_dependents(self, job_ids: Iterable[JobId]) -> list[JobId]:
        found = dict.fromkeys(job_ids)
        stack = list(found)
        while stack:
            for dependent in self.dependents[stack.pop()]:
                if dependent not in found:
                    found[dependent] = None
                    stack.append(dependent)
        return list(found)

    def _unblock(self, job_id: JobId) -> list[JobId]:
        """All dependencies of a blocked job have settled: it becomes ready, or is canceled with its own."""
        if not (self.poisoned[job_id] and self.job(job_id).cancel_on_blocking_job_failure):
            self._set(job_id, Status.READY)
            return [job_id]
        self._set(job_id, Status.CANCELED)
        return self._settle(job_id, failed=True)

    def _settle(self, job_id: JobId, *, failed: bool) -> list[JobId]:
        """Tell the dependents, and theirs where cancellation cascades.  Iterative: chains may be long."""
        became_ready: list[JobId] = []
        canceled: list[JobId] = []
        stack = [(job_id, failed)]
        while stack:
            settled, bad = stack.pop()
            for dependent in self.dependents[settled]:
                self.unsettled[dependent] -= 1
                if bad:
                    self.poisoned[dependent] = 1
                if self.unsettled[dependent] or self.status[dependent] is not Status.BLOCKED:
                    continue
                if self.poisoned[dependent] and self.job(dependent).cancel_on_blocking_job_failure:
                    self._set(dependent, Status.CANCELED)
                    canceled.append(dependent)
                    stack.append((dependent, True))
                else:
                    self._set(dependent, Status.READY)
                    became_ready.append(dependent)
        self.newly_canceled = tuple(sorted(canceled))
        return became_ready

    # -- one method a record --------------------------------------------------------------------------------

    def _workflow_created(self, t: str, mono: float, record: r.WorkflowCreated) -> tuple[JobId, ...]:
        self.created_at = t
        self.directory = record.directory
        self.files_seen = dict(record.files_seen or {})
        return tuple(self.ready_jobs())

    def _workflow_updated(self, t: str, mono: float, record: r.WorkflowUpdated) -> tuple[JobId, ...]:
        old_status = {job.job_id: self.status[job.job_id] for job in self.workflow.jobs}
        old_attempt = {j: (self.attempt[j], self.attempt_run[j]) for j in old_status}
        old, old_names = self.workflow, {job.job_id: job.name for job in self.workflow.jobs}
        self._install(Workflow.from_dict(record.workflow))
        self.actions_taken = triggers.carried_over(old, self.workflow, self.actions_taken)
        for job in self.workflow.jobs:
            kept = old_status.get(job.job_id)
            if kept is not None:
                self._set(job.job_id, kept)
                self.attempt[job.job_id], self.attempt_run[job.job_id] = old_attempt[job.job_id]
        self._recount()
        known = self.known_ids()
        self.removed |= {j: name for j, name in old_names.items() if j not in known}
        self.results.keep_only(known)
        return ()

    def _run_started(self, t: str, mono: float, record: r.RunStarted) -> tuple[JobId, ...]:
        self.supervisor = SupervisorInfo(record, t)
        self.allocations.run_started(t, record)
        self.run_id = record.run_id
        self.terminating = None
        self.canceled = False
        return ()

    def _job_started(self, t: str, mono: float, record: r.JobStarted) -> tuple[JobId, ...]:
        job_id = record.job_id
        self._set(job_id, Status.RUNNING)
        self.attempt[job_id] = record.attempt_id
        self.attempt_run[job_id] = record.run_id
        self.live[job_id] = LiveAttempt(record, t, mono)
        return ()

    def _job_signaled(self, t: str, mono: float, record: r.JobSignaled) -> tuple[JobId, ...]:
        live = self.live.get(record.job_id)
        if live is not None:
            if live.asked_at is None:
                live = replace(live, asked_at=mono, asked_why=record.why)
            self.live[record.job_id] = replace(live, last_signal=record.signal)
        return ()

    def _job_ended(self, t: str, mono: float, record: r.JobEnded) -> tuple[JobId, ...]:
        job_id = record.job_id
        status = Status(record.status)
        self.live.pop(job_id, None)
        self._set(job_id, status)
        self.results[job_id] = (t, record)
        if record.outputs_seen:
            self.files_seen.update(record.outputs_seen)
        self.newly_canceled = ()
        if status not in SETTLED:
            return ()
        return tuple(sorted(self._settle(job_id, failed=status is not Status.COMPLETED)))

    def _termination_started(self, t: str, mono: float, record: r.TerminationStarted) -> tuple[JobId, ...]:
        self.terminating = record
        return ()

    def _workflow_canceled(self, t: str, mono: float, record: r.WorkflowCanceled) -> tuple[JobId, ...]:
        self.canceled = True
        return ()

    def _warned(self, t: str, mono: float, record: r.Warned) -> tuple[JobId, ...]:
        self.warnings.append((t, record))
        del self.warnings[:-_WARNINGS_KEPT]
        return ()

    def _run_ended(self, t: str, mono: float, record: r.RunEnded) -> tuple[JobId, ...]:
        if self.supervisor is not None:
            self.allocations.run_ended(t, self.supervisor.record.slurm_job_id)
            self.supervisor = replace(self.supervisor, ended=record)
        self.terminating = None
        return ()

    def _reinitialized(self, t: str, mono: float, record: r.Reinitialized) -> tuple[JobId, ...]:
        self.run_id = record.run_id
        self.canceled = False
        if record.files_seen is not None:
            self.files_seen.update(record.files_seen)
        # Whatever has not settled is looked at anew as well: this is what revives `terminated` jobs.
        reset = {int(job_id) for job_id in record.reset}
        fresh = [
            j.job_id
            for j in self.workflow.jobs
            if j.job_id in reset or self.status[j.job_id] not in (*SETTLED, Status.DISABLED)
        ]
        again = self.with_dependents(fresh)
        self._rearm_actions(again)
        for job_id in again:
            self.results.pop(job_id, None)
        self._recount()
        return self._initialize(fresh)

    def _status_reset(self, t: str, mono: float, record: r.StatusReset) -> tuple[JobId, ...]:
        self._rearm_actions(record.job_ids)
        for job_id in record.job_ids:
            self._set(job_id, Status.UNINITIALIZED)
            self.results.pop(job_id, None)
        self._recount()
        self.canceled = False
        return ()

    def _end_changed(self, t: str, mono: float, record: r.EndChanged) -> tuple[JobId, ...]:
        if self.supervisor is not None:
            started = replace(self.supervisor.record, end_time=record.end_time)
            self.supervisor = replace(self.supervisor, record=started)
        return ()

    def _allocation_submitted(self, t: str, mono: float, record: r.AllocationSubmitted) -> tuple[JobId, ...]:
        self.allocations.submitted(t, record)
        return ()

    def _allocation_ended(self, t: str, mono: float, record: r.AllocationEnded) -> tuple[JobId, ...]:
        self.allocations.ended(t, record)
        return ()

    def _action_taken(self, t: str, mono: float, record: r.ActionTaken) -> tuple[JobId, ...]:
        self.actions_taken[record.action] = record
        return ()

    def _rearm_actions(self, job_ids: Iterable[JobId]) -> None:
        before = {job_id: self.status[job_id] for job_id in job_ids}
        self.actions_taken = triggers.rearmed(self.workflow, self.actions_taken, before)

    def known_ids(self) -> set[JobId]:
        return {job.job_id for job in self.workflow.jobs}

    def _recount(self) -> None:
        """Count unsettled dependencies from scratch, after statuses or dependencies went backwards."""
        for job in self.workflow.jobs:
            statuses = [self.status[d] for d in job.depends_on]
            self.unsettled[job.job_id] = sum(s not in SETTLED for s in statuses)
            self.poisoned[job.job_id] = any(s in (Status.FAILED, Status.CANCELED) for s in statuses)
            if self.unsettled[job.job_id] and self.status[job.job_id] is Status.READY:
                self._set(job.job_id, Status.BLOCKED)

    # -- checking -------------------------------------------------------------------------------------------

    def check(self, *, adopted: bool = False) -> None:
        """Raise AssertionError if an invariant of the class does not hold.

        Args:
            adopted: a last will has recorded attempts; results that they had waited for may be lost (decisions/0023).
        """
        statuses = [self.status[job.job_id] for job in self.workflow.jobs]
        for status in Status:
            assert self.counts[status] == statuses.count(status), f"counts[{status}]"
        running = {j.job_id for j in self.workflow.jobs if self.status[j.job_id] is Status.RUNNING}
        assert set(self.live) == running, "live"
        for job in self.workflow.jobs:
            unsettled = sum(self.status[d] not in SETTLED for d in job.depends_on)
            assert self.unsettled[job.job_id] == unsettled, f"unsettled[{job.name}]"
            if self.status[job.job_id] in ((Status.READY,) if adopted else (Status.READY, Status.RUNNING)):
                assert unsettled == 0, f"{job.name} is {self.status[job.job_id]} too early"


_WARNINGS_KEPT = 20

_Handler = Callable[[WorkflowState, str, float, Any], tuple[JobId, ...]]
_HANDLERS: dict[type[r.Record], _Handler] = {
    r.WorkflowCreated: WorkflowState._workflow_created,
    r.WorkflowUpdated: WorkflowState._workflow_updated,
    r.RunStarted: WorkflowState._run_started,
    r.JobStarted: WorkflowState._job_started,
    r.JobSignaled: WorkflowState._job_signaled,
    r.JobEnded: WorkflowState._job_ended,
    r.TerminationStarted: WorkflowState._termination_started,
    r.WorkflowCanceled: WorkflowState._workflow_canceled,
    r.Warned: WorkflowState._warned,
    r.RunEnded: WorkflowState._run_ended,
    r.Reinitialized: WorkflowState._reinitialized,
    r.StatusReset: WorkflowState._status_reset,
    r.EndChanged: WorkflowState._end_changed,
    r.AllocationSubmitted: WorkflowState._allocation_submitted,
    r.AllocationEnded: WorkflowState._allocation_ended,
    r.ActionTaken: WorkflowState._action_taken,
}
"""Records that are missing here change nothing: they tell a person something (SignalReceived, JobsCanceled, ...)."""
