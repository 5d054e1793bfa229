"""Books: what a run writes down.  Records are folded into the state at the moment they are issued."""

from __future__ import annotations

from collections.abc import Callable

from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.orders import Orders, Say, Write, escaped_text, leftovers_text
from torc_supervise.machine.repeats import Repeats
from torc_supervise.machine.result import AttemptKey, ReturnCodes, complaints, job_ended, not_started
from torc_supervise.machine.sampling import Samples
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.workflow.model import JobId


class Books:
    """Owns the state and the orders that nobody took yet.

    ``now`` and ``t`` are the time for what is written next: monotonic seconds, and UTC ISO 8601.
    """

    def __init__(self, state: WorkflowState, written: Callable[[r.Record, tuple[JobId, ...]], None]) -> None:
        """``written`` is told each record once it is folded, with the jobs that it made ready."""
        execution = state.workflow.execution
        self.state = state
        self.samples = Samples()
        self.repeats = Repeats()
        self.orders: Orders = []
        self.now = 0.0
        self.t = ""
        self._written = written
        self._codes = ReturnCodes(execution.timeout_exit_code, execution.oom_exit_code)

    def take_orders(self) -> Orders:
        orders, self.orders = self.orders, []
        return orders

    def write(self, record: r.Record) -> None:
        mono = round(self.now, 6)  # as the journal will say it
        ready = self.state.apply(self.t, mono, record)
        self.orders.append(Write(record, self.t, mono))
        self._written(record, ready)

    def signal_received(self, name: str) -> bool:
        """Record a signal to the supervisor, or count it with others of its second; whether it was the former."""
        if not self.repeats.is_news(name, self.now):
            return False
        self.write(r.SignalReceived(self.state.run_id, name))
        return True

    def record_repeats(self, now: float) -> None:
        for name, count in self.repeats.take(now):
            self.write(r.SignalReceived(self.state.run_id, name, count))

    def say(self, text: str) -> None:
        self.orders.append(Say(text))

    def warn(self, code: str, message: str, job_id: JobId | None = None) -> None:
        """Record a warning and tell whoever watches."""
        self.write(r.Warned(self.state.run_id, code, message, job_id))
        self.say(f"warning: {message}")

    def left_behind(self, job_id: JobId, members: int, escaped: int) -> None:
        """Warn of what outlived a job's leader, in its group and outside of it."""
        job = self.state.job(job_id)
        members -= self.state.workflow.isolates(
            job
        )  # PID 1 of its namespace, which ends with the last of them
        if members > 0:
            self.warn("leftovers", leftovers_text(job, members), job_id)
        if escaped:
            self.warn("escaped", escaped_text(job, escaped), job_id)

    def result(
        self,
        job_id: JobId,
        outcome: p.Outcome,
        started: float,
        verified: e.Verified | None,
        *,
        end_known: bool,
    ) -> None:
        """The one result of an attempt that was started at ``started``."""
        live, job = self.state.live[job_id], self.state.job(job_id)
        key = AttemptKey(self.state.run_id, job_id, live.started.attempt_id, live.start_time)
        record = job_ended(
            key,
            outcome,
            started,
            self._codes,
            end_known=end_known,
            verified=verified,
            checkpoint=job.checkpoint,
        )
        record = self.samples.complete(job_id, record)
        for code, message in complaints(job, record, looked=verified is not None):
            self.warn(code, message, job_id)
        self.write(record)
        self._announce_canceled(job_id, record)

    def failed_start(self, job_id: JobId, message: str) -> None:
        state = self.state
        attempt = state.attempt_of(job_id)
        self.write(r.JobStarted(state.run_id, job_id, attempt, 0, 0))
        record = not_started(AttemptKey(state.run_id, job_id, attempt, self.t), message)
        for code, text in complaints(state.job(job_id), record, looked=False):
            self.warn(code, text, job_id)
        self.write(record)
        self._announce_canceled(job_id, record)

    def _announce_canceled(self, job_id: JobId, record: r.JobEnded) -> None:
        if record.status not in (Status.FAILED, Status.CANCELED):
            return
        canceled = self.state.newly_canceled
        if canceled:
            self.write(r.JobsCanceled(self.state.run_id, job_id, canceled))
