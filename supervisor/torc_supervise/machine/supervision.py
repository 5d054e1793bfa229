"""Supervision: one whole run, decided without a system call.

Holds the phase of every live attempt and what the run as a whole is about (working, or ending and why).  Fed with
what happened and the time, it answers with orders for the loop.  It owns the WorkflowState and folds every record
into it at the moment it issues it, so the live state is the state that a reader of the journal will come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from signal import SIGINT

from torc_supervise.exitstatus import Exit, Usage
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import orders as o
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.backoff import Backoff
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.limits import Limits
from torc_supervise.machine.orders import Ending, Order, Orders, Say, Start, Write
from torc_supervise.machine.result import (
    AttemptKey,
    ReturnCodes,
    complaints,
    job_ended,
    not_started,
    signal_name,
)
from torc_supervise.machine.sampling import Samples
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import RunState, Status, StopReason
from torc_supervise.machine.step import step
from torc_supervise.machine.timers import Timers
from torc_supervise.scheduler import Scheduler
from torc_supervise.workflow.model import JobId

SECOND_INTERRUPT_AFTER = 0.2
"""Seconds.  A second SIGINT counts as "kill now" only after this: a terminal and a wrapper (srun, a launcher) may
both pass on one Ctrl-C, and those two arrive within milliseconds."""

__all__ = ["Ending", "Order", "Orders", "Say", "Start", "Supervision", "Write"]


class Supervision:
    """All decisions of a run.

    Invariants (:meth:`check`): ``_by_pgid[g]`` is j iff j's phase has group g; every job that is running in the
    state has a phase here; once ``ending`` is set nothing is started.
    """

    def __init__(self, state: WorkflowState, scheduler: Scheduler, wall: WallTime | None = None) -> None:
        self.state = state
        self.ending: Ending | None = None
        self.samples = Samples()
        self._scheduler = scheduler
        self._limits = Limits(state.workflow.execution, wall or WallTime())
        self._codes = ReturnCodes(
            state.workflow.execution.timeout_exit_code, state.workflow.execution.oom_exit_code
        )
        self._phases: dict[JobId, p.Phase] = {}  # only attempts that are not over
        self._abandoned = 0  # how many of them are Abandoned
        self._by_pgid: dict[int, JobId] = {}
        self._gpus: dict[JobId, tuple[int, ...]] = {}
        self._timers = Timers(self._phases)
        self._backoff = Backoff()
        self._interrupted_at: float | None = None  # the first SIGINT
        self._orders: Orders = []
        self._now = 0.0
        self._t = ""

    # -- what the loop asks ---------------------------------------------------------------------------------

    def at(self, now: float, t: str) -> None:
        """Set the time for what follows: monotonic seconds, and wall time (UTC ISO 8601) for records."""
        self._now, self._t = now, t

    def take_orders(self) -> Orders:
        orders, self._orders = self._orders, []
        return orders

    @property
    def next_deadline(self) -> float:
        """The earliest moment at which ``tick`` has something to do."""
        earliest = self._timers.earliest
        if self.ending is not None:
            return earliest
        if len(self._scheduler):
            earliest = min(earliest, self._backoff.until if self._backoff.until > self._now else p.NEVER)
        return min(earliest, self._limits.closing_at)

    @property
    def done(self) -> bool:
        """Nothing runs, nothing is being looked at, and nothing more will start."""
        if self._unfinished():
            return False
        return self.ending is not None or not len(self._scheduler) or self._scheduler.stuck

    @property
    def groups(self) -> dict[int, JobId]:
        """pgid -> job of all groups that may still have members, abandoned ones included."""
        return self._by_pgid

    def draining(self) -> Iterator[int]:
        """Groups that may have members without their leader; of an abandoned one nobody knows."""
        for pgid, job_id in self._by_pgid.items():
            phase = self._phases[job_id]
            if p.leader_gone(phase) or isinstance(phase, p.Abandoned):
                yield pgid

    def phase(self, job_id: JobId) -> p.Phase | None:
        return self._phases.get(job_id)

    def outcome(self) -> RunState:
        return self.state.outcome()

    # -- what the loop reports ------------------------------------------------------------------------------

    def begin(self, record: r.RunStarted) -> None:
        """The run begins.  Until then nothing is started."""
        self._write(record)
        self._scheduler.add(self.state.job(job_id) for job_id in self.state.ready_jobs())

    def end(self, record: r.RunEnded) -> None:
        """The run is over; nothing may follow."""
        left = self.state.ready_jobs() if self.state.counts[Status.READY] else []
        if left and (self.ending is None or self.ending.why is StopReason.WALL_TIME):
            self.warn("not_enough_time", o.not_started_text([self.state.job(job_id) for job_id in left]))
        self._write(record)

    def on_leader_exited(self, pgid: int, exit_: Exit, members: int) -> None:
        self._feed(self._by_pgid[pgid], e.LeaderExited(exit_, members))

    def on_group_changed(self, pgid: int, members: int) -> None:
        self._feed(self._by_pgid[pgid], e.GroupChanged(members))

    def on_reaped(self, job_id: JobId, usage: Usage | None) -> None:
        self._feed(job_id, e.Reaped(usage))

    def on_verified(self, job_id: JobId, verified: e.Verified) -> None:
        if job_id in self._phases:
            self._feed(job_id, verified)

    def on_spawned(self, job_id: JobId, pgid: int) -> None:
        """There is a process for the job.

        Race: a termination signal arrived while the spawn was under way.  The signal's byte is read only after this
        call, and ``begin_ending`` reaches every job that is in the table; where ending began before (a start order
        of the same turn), the job is asked right here.  Either way it is signalled (P7).
        Test: test_supervision.py::test_p7_a_job_caught_in_the_act_of_starting_is_signalled_too.
        """
        self._backoff.succeeded()
        job = self.state.job(job_id)
        starting = self._phases[job_id]
        assert isinstance(starting, p.Starting)
        attempt = self.state.attempt_of(job_id)
        self._by_pgid[pgid] = job_id
        self._write(
            r.JobStarted(self.state.run_id, job_id, attempt, pgid, pgid, self._gpus.get(job_id) or None)
        )
        self._feed(job_id, self._limits.spawned(starting.policy, job, pgid, self._now))
        if self.ending is not None:
            if self.ending.hurried:
                self._feed(job_id, e.KillAsked(self.ending.why))
            else:
                self._ask(job_id, self.ending.why)

    def on_spawn_refused(self, job_id: JobId, errno: int) -> None:
        self._feed(job_id, e.SpawnRefused(errno))

    def on_spawn_failed(self, job_id: JobId, errno: int, message: str) -> None:
        self._feed(job_id, e.SpawnFailed(errno, message))

    def on_signal(self, signum: int) -> None:
        """The supervisor itself was signalled.  Only the first request counts; a second Ctrl-C kills at once."""
        name = signal_name(signum)
        self._write(r.SignalReceived(self.state.run_id, name))
        if signum == SIGINT:
            # Measured from the first one: of a key that is held down, each comes right after the one before.
            if self._interrupted_at is None:
                self._interrupted_at = self._now
            elif self._now - self._interrupted_at >= SECOND_INTERRUPT_AFTER:
                self._kill_all()
                return
        if self._some_compute_on:
            self._begin_ending(StopReason.SIGNAL, name, hint=signum == SIGINT)
        else:
            self._say(f"{name} received again: already ending, {o.jobs_text(self._unfinished())} left")

    def on_owner_changed(self, owner: str) -> None:
        """Somebody has taken the workflow over, because this allocation was believed to be gone: end what runs here.

        Nothing of it is recorded any more; the new owner has recorded these jobs as lost, and may run them again.
        """
        if self.ending is None or self.ending.why is not StopReason.OWNER_CHANGED:
            self._begin_ending(StopReason.OWNER_CHANGED, f"the workflow belongs to {owner} now")

    def on_cancel(self, allocations: Iterable[str] = ()) -> None:
        """Somebody canceled the workflow: jobs that still run end as canceled.

        Args:
            allocations: queued ones that were canceled with it.

        Race: a cancel that goes through Slurm may come as a signal first and with its meaning a little later.
        Test: test_supervision.py::test_a_signal_that_turns_out_to_be_a_cancel_is_recorded_as_one.
        """
        for slurm_job_id in allocations:
            self._write(r.AllocationEnded(slurm_job_id, "canceled"))
        if not self.state.canceled:
            self._write(r.WorkflowCanceled(self.state.run_id))
        if self._some_compute_on:
            self._begin_ending(StopReason.CANCEL, "cancel")
        elif self.ending is not None and self.ending.why is StopReason.SIGNAL:
            self.ending = replace(self.ending, why=StopReason.CANCEL)
            for job_id in list(self._phases):
                self._feed(job_id, e.CancelNoted())

    def on_sample(self, job_id: JobId, memory_bytes: int, cpu_percent: float, at_limit: bool) -> None:
        """The sampler looked at a job's processes; ``at_limit``: they use more than the job asked for."""
        if job_id not in self._phases:
            return
        self.samples.add(job_id, memory_bytes, cpu_percent)
        if at_limit and isinstance(self._phases[job_id], p.Running):
            self._say(o.memory_text(self.state.job(job_id), memory_bytes))
            self._feed(job_id, e.KillAsked(StopReason.MEMORY_LIMIT))

    def warn(self, code: str, message: str, job_id: JobId | None = None) -> None:
        """Record a warning and tell whoever watches."""
        self._write(r.Warned(self.state.run_id, code, message, job_id))
        self._say(f"warning: {message}")

    def on_leaving(self) -> None:
        """Everything is asked to be quick: waits without an end get one."""
        for job_id in [j for j, phase in self._phases.items() if isinstance(phase, p.Verifying)]:
            self._feed(job_id, e.LeavingAsked(self._limits.verify_until(self._now)))

    def tick(self) -> None:
        """Feed the clock to every phase whose deadline has come."""
        wall_time = False
        for job_id in self._timers.due(self._now):
            before = self._phases[job_id]
            self._feed(job_id, self._limits.clock(before, self._now))
            if isinstance(before, p.Running) and before.ask_why is StopReason.RUNTIME_LIMIT:
                self._say(o.runtime_text(self.state.job(job_id)))
            wall_time = wall_time or self._was_asked_for_wall_time(job_id)
        # The first job that is asked because of wall time closes the run for new ones; others go on.
        if self.ending is None and (wall_time or self._now >= self._limits.closing_at):
            self._begin_ending(StopReason.WALL_TIME, "the end of the allocation is near")

    def start_next(self) -> bool:
        """Order one more start if there is room.  Nothing starts once termination was asked for (P7)."""
        if self.ending is not None or self._backoff.until > self._now:
            return False
        taken = self._scheduler.take(lambda job: self._limits.fits_in_time(job, self._now))
        if taken is None:
            return False
        job, gpus = taken
        self._gpus[job.job_id] = gpus
        self._phases[job.job_id] = p.Starting(self._limits.policy(job))
        self._orders.append(Start(job, self.state.attempt_of(job.job_id), gpus))
        return True

    # -- deciding -------------------------------------------------------------------------------------------

    @property
    def _some_compute_on(self) -> bool:
        """Nobody has asked all jobs to end yet; when wall time closes a run, each is asked at its own moment."""
        return self.ending is None or self.ending.why is StopReason.WALL_TIME

    def _was_asked_for_wall_time(self, job_id: JobId) -> bool:
        phase = self._phases.get(job_id)
        return isinstance(phase, p.Terminating | p.Killing) and phase.why is StopReason.WALL_TIME

    def _begin_ending(self, why: StopReason, what: str, *, hint: bool = False) -> None:
        self.ending = Ending(why, self.ending.since if self.ending is not None else self._now)
        if why is not StopReason.WALL_TIME:  # there each job has its own moment
            for job_id in list(self._phases):
                self._ask(job_id, why)
        tally = o.Tally.of(self._phases.values(), self._now)
        signal = what if why is StopReason.SIGNAL else None
        self._write(
            r.TerminationStarted(
                self.state.run_id, why.value, tally.asked, tally.killed, signal, round(tally.seconds, 3)
            )
        )
        self._say(o.announcement(what, why, tally, hint=hint))
        self.on_leaving()

    def _ask(self, job_id: JobId, why: StopReason) -> None:
        phase = self._phases[job_id]
        policy = getattr(phase, "policy", None)
        if isinstance(policy, p.Policy):
            self._feed(job_id, e.StopAsked(why, self._limits.kill_at(policy, self._now)))

    def _kill_all(self) -> None:
        assert self.ending is not None, "the first interrupt began it"
        self.ending = replace(self.ending, hurried=True)
        live = [j for j, phase in self._phases.items() if isinstance(phase, _MAY_BE_KILLED)]
        for job_id in live:
            self._feed(job_id, e.KillAsked(self.ending.why))
        self._say(f"second SIGINT: {o.jobs_text(len(live))} killed at once")

    def _feed(self, job_id: JobId, event: e.Event) -> None:
        """One step of one job, and what follows for the table, the books and the loop."""
        before = self._phases.get(job_id, _FINISHED)
        after, actions = step(before, event, self._now)
        if after is not before:
            self._replace(job_id, before, after)
        for action in actions:
            self._act(job_id, action)

    def _replace(self, job_id: JobId, before: p.Phase, after: p.Phase) -> None:
        old = p.pgid_of(before)
        if old is not None and p.pgid_of(after) is None:
            del self._by_pgid[old]
        self._abandoned += isinstance(after, p.Abandoned) - isinstance(before, p.Abandoned)
        if isinstance(after, p.Finished | p.PutBack):
            self._phases.pop(job_id, None)
        else:
            self._phases[job_id] = after
            self._timers.note(job_id)
        if p.gives_back(before, after):
            self._scheduler.release(job_id)

    def _act(self, job_id: JobId, action: a.Action) -> None:
        state = self.state
        match action:
            case a.SignalGroup() | a.SignalLeader() | a.Reap() | a.Verify():
                self._orders.append(Order(job_id, action))
                if isinstance(action, a.Verify) and self.ending is not None:
                    self._feed(job_id, e.LeavingAsked(self._limits.verify_until(self._now)))
            case a.NoteSignal(pgid=pgid, signum=signum, why=why):
                attempt = state.attempt[job_id]
                self._write(
                    r.JobSignaled(state.run_id, job_id, attempt, pgid, signal_name(signum), why.value)
                )
            case a.NoteLeftovers(members=members):
                self.warn("leftovers", o.leftovers_text(state.job(job_id), members), job_id)
            case a.RecordResult(outcome=outcome, started=started, verified=verified):
                self._record_result(job_id, outcome, started, verified)
            case a.RecordFailedStart(message=message):
                self._record_failed_start(job_id, message)
            case a.ReturnToReady(errno=errno):
                self._put_back(job_id, errno)

    def _record_result(
        self, job_id: JobId, outcome: p.Outcome, started: float, verified: e.Verified | None
    ) -> None:
        live, job = self.state.live[job_id], self.state.job(job_id)
        key = AttemptKey(self.state.run_id, job_id, live.started.attempt_id, live.start_time)
        record = job_ended(
            key,
            outcome,
            started,
            self._codes,
            end_known=self._limits.wall.known,
            verified=verified,
            checkpoint=job.checkpoint,
        )
        record = self.samples.complete(job_id, record)
        for code, message in complaints(job, record, looked=verified is not None):
            self.warn(code, message, job_id)
        self._write(record)
        self._announce_canceled(job_id, record)

    def _record_failed_start(self, job_id: JobId, message: str) -> None:
        state = self.state
        attempt = state.attempt_of(job_id)
        self._write(r.JobStarted(state.run_id, job_id, attempt, 0, 0))
        record = not_started(AttemptKey(state.run_id, job_id, attempt, self._t), message)
        for code, text in complaints(state.job(job_id), record, looked=False):
            self.warn(code, text, job_id)
        self._write(record)
        self._announce_canceled(job_id, record)

    def _put_back(self, job_id: JobId, errno: int) -> None:
        """P11: the job is as ready as before; the machine gets a pause that grows while it stays full."""
        pause = self._backoff.failed(self._now)
        self._scheduler.add([self.state.job(job_id)])
        if self._backoff.failures in (1, 5, 20):
            message = f"the machine is full (errno {errno}): next try in {pause:.1f} s"
            self.warn("machine_full", message, job_id)

    def _announce_canceled(self, job_id: JobId, record: r.JobEnded) -> None:
        if record.status not in (Status.FAILED, Status.CANCELED):
            return
        canceled = self.state.newly_canceled
        if canceled:
            self._write(r.JobsCanceled(self.state.run_id, job_id, canceled))

    def _write(self, record: r.Record) -> None:
        mono = round(self._now, 6)  # as the journal will say it
        ready = self.state.apply(self._t, mono, record)
        if ready and self.ending is None:
            self._scheduler.add(self.state.job(job_id) for job_id in ready)
        self._orders.append(Write(record, self._t, mono))

    def _say(self, text: str) -> None:
        self._orders.append(Say(text))

    def _unfinished(self) -> int:
        return len(self._phases) - self._abandoned

    # -- checking -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if an invariant does not hold."""
        groups = {pgid: j for j, phase in self._phases.items() if (pgid := p.pgid_of(phase)) is not None}
        assert groups == self._by_pgid, "by_pgid"
        books = {j for j, ph in self._phases.items() if not isinstance(ph, p.Starting | p.Abandoned)}
        assert set(self.state.live) == books, "live"
        self.state.check()
        self._scheduler.check()


_FINISHED = p.Finished()
_MAY_BE_KILLED = p.Running | p.Terminating | p.Lingering
