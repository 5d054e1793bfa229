"""Supervision: one whole run, decided without a system call.

Holds the phase of every live attempt and what the run as a whole is about (working, or ending and why).  Fed with
what happened and the time, it answers with orders for the loop.  It owns the WorkflowState and folds every record
into it at the moment it issues it, so the live state is the state that a reader of the journal will come to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from signal import SIGINT, Signals

from torc_supervise.exitstatus import Exit, Usage
from torc_supervise.machine import actions as a
from torc_supervise.machine import deadlines
from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.backoff import Backoff
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.result import AttemptKey, ReturnCodes, job_ended, signal_name
from torc_supervise.machine.sampling import Samples
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import RunState, Status, StopReason
from torc_supervise.machine.step import step
from torc_supervise.scheduler import Scheduler
from torc_supervise.workflow.model import Job, JobId

SECOND_INTERRUPT_AFTER = 0.2
"""Seconds.  A second SIGINT counts as "kill now" only after this: a terminal and a wrapper (srun, a launcher) may
both pass on one Ctrl-C, and those two arrive within milliseconds."""

VERIFY_LIMIT = 30.0
"""Seconds that a supervisor which wants to leave waits for a file system to say whether outputs exist."""


@dataclass(frozen=True, slots=True)
class Start:
    """Order: spawn this job and report Spawned, SpawnRefused or SpawnFailed."""

    job: Job
    attempt_id: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Order: carry out an action for a job."""

    job_id: JobId
    action: a.SignalGroup | a.SignalLeader | a.Reap | a.Verify


@dataclass(frozen=True, slots=True)
class Write:
    """Order: hand this record, already folded into the state, to the keeper."""

    record: r.Record


@dataclass(frozen=True, slots=True)
class Say:
    """Order: one line on stderr for whoever watches."""

    text: str


Orders = list[Start | Order | Write | Say]


@dataclass(frozen=True, slots=True)
class Ending:
    """The run was asked to end."""

    why: StopReason
    since: float
    hurried: bool = False  # a second interrupt killed everything


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
        self._wall = wall or WallTime()
        self._codes = ReturnCodes(
            state.workflow.execution.timeout_exit_code, state.workflow.execution.oom_exit_code
        )
        self._phases: dict[JobId, p.Phase] = {}  # only attempts that are not over
        self._abandoned = 0  # how many of them are Abandoned
        self._by_pgid: dict[int, JobId] = {}
        self._gpus: dict[JobId, tuple[int, ...]] = {}
        self._deadlines: list[tuple[float, JobId]] = []  # heap; entries may be stale, phases are the truth
        self._backoff = Backoff()
        self._interrupted_at = -p.NEVER
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
        while self._deadlines and self._is_stale(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        earliest = self._deadlines[0][0] if self._deadlines else p.NEVER
        if self.ending is not None:
            return earliest
        if len(self._scheduler):
            earliest = min(earliest, self._backoff.until if self._backoff.until > self._now else p.NEVER)
        return min(earliest, self._closing_at)

    @property
    def done(self) -> bool:
        """Nothing runs, nothing is being looked at, and nothing more will start."""
        if self._unfinished():
            return False
        return self.ending is not None or not len(self._scheduler)

    @property
    def groups(self) -> dict[int, JobId]:
        """pgid -> job of all groups that may still have members, abandoned ones included."""
        return self._by_pgid

    def draining(self) -> Iterator[int]:
        """Groups whose leader is gone and which still have members, as far as we know."""
        for pgid, job_id in self._by_pgid.items():
            phase = self._phases[job_id]
            if isinstance(phase, p.Lingering) or (
                isinstance(phase, p.Terminating | p.Killing) and phase.exit is not None
            ):
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
        limit = job.requirements.runtime_seconds if self.state.workflow.execution.limit_resources else None
        ask_at, why, kill_at = deadlines.own_ask(starting.policy, self._now, self._wall, limit)
        attempt = self.state.attempt_of(job_id)
        self._by_pgid[pgid] = job_id
        self._write(
            r.JobStarted(self.state.run_id, job_id, attempt, pgid, pgid, self._gpus.get(job_id) or None)
        )
        self._feed(job_id, e.Spawned(pgid, ask_at, why, kill_at))
        if self.ending is not None:
            self._ask(job_id, self.ending.why)

    def on_spawn_refused(self, job_id: JobId, errno: int) -> None:
        self._feed(job_id, e.SpawnRefused(errno))

    def on_spawn_failed(self, job_id: JobId, errno: int, message: str) -> None:
        self._feed(job_id, e.SpawnFailed(errno, message))

    def on_signal(self, signum: int) -> None:
        """The supervisor itself was signalled.  Only the first request counts; a second Ctrl-C kills at once."""
        name = signal_name(signum)
        self._write(r.SignalReceived(self.state.run_id, name))
        first_interrupt, self._interrupted_at = self._interrupted_at, self._now
        if signum != SIGINT:
            self._interrupted_at = first_interrupt
        elif first_interrupt > -p.NEVER and self._now - first_interrupt >= SECOND_INTERRUPT_AFTER:
            self._kill_all()
            return
        if self.ending is not None:
            self._say(f"{name} received again: already ending, {self._unfinished()} jobs left")
            return
        self._begin_ending(StopReason.SIGNAL, name, hint=signum == SIGINT)

    def on_cancel(self) -> None:
        """Somebody canceled the workflow: jobs that still run end as canceled."""
        if not self.state.canceled:
            self._write(r.WorkflowCanceled(self.state.run_id))
        if self.ending is None:
            self._begin_ending(StopReason.CANCEL, "cancel")

    def on_sample(self, job_id: JobId, memory_bytes: int, cpu_percent: float, at_limit: bool) -> None:
        """The sampler looked at a job's processes; ``at_limit``: they use more than the job asked for."""
        if job_id not in self._phases:
            return
        self.samples.add(job_id, memory_bytes, cpu_percent)
        if at_limit and isinstance(self._phases[job_id], p.Running):
            job = self.state.job(job_id)
            self._say(
                f"job '{job.name}' uses {memory_bytes >> 20} MiB, more than the "
                f"{job.requirements.memory_bytes >> 20} MiB it asked for: killed"
            )
            self._feed(job_id, e.KillAsked(StopReason.MEMORY_LIMIT))

    def warn(self, code: str, message: str, job_id: JobId | None = None) -> None:
        """Record a warning and tell whoever watches."""
        self._write(r.Warned(self.state.run_id, code, message, job_id))
        self._say(f"warning: {message}")

    def on_leaving(self) -> None:
        """Everything is asked to be quick: waits without an end get one."""
        for job_id in [j for j, phase in self._phases.items() if isinstance(phase, p.Verifying)]:
            self._feed(job_id, e.LeavingAsked(self._now + VERIFY_LIMIT))

    def tick(self) -> None:
        """Feed the clock to every phase whose deadline has come."""
        while self._deadlines and self._deadlines[0][0] <= self._now:
            at, job_id = heapq.heappop(self._deadlines)
            if self._is_stale(at, job_id):
                continue
            self._feed(job_id, e.ClockReached())
            self._begin_wall_time_if_due(job_id)
        if self.ending is None and self._now >= self._closing_at:
            self._begin_ending(StopReason.WALL_TIME, "the end of the allocation is near")

    def start_next(self) -> bool:
        """Order one more start if there is room.  Nothing starts once termination was asked for (P7)."""
        if self.ending is not None or self._backoff.until > self._now:
            return False
        taken = self._scheduler.take(self._fits_in_time)
        if taken is None:
            return False
        job, gpus = taken
        self._gpus[job.job_id] = gpus
        self._phases[job.job_id] = p.Starting(self._policy(job))
        self._orders.append(Start(job, self.state.attempt_of(job.job_id), gpus))
        return True

    # -- deciding -------------------------------------------------------------------------------------------

    def _policy(self, job: Job) -> p.Policy:
        execution = self.state.workflow.execution
        grace, stated = deadlines.grace_of(job, execution)
        policy = p.Policy(
            termination_signal=Signals[job.termination_signal or execution.termination_signal].value,
            supports_termination=job.supports_termination,
            signal_leader_only=job.signal_scope == "leader",
            grace=grace,
            grace_stated=stated,
            verify=bool(job.output_files or job.checkpoint),
        )
        return deadlines.scaled(policy, self._wall)

    def _fits_in_time(self, job: Job) -> bool:
        """A job that cannot save is not started when its stated runtime would be cut off by the end."""
        runtime = job.requirements.runtime_seconds
        if job.supports_termination or runtime is None or not self._wall.known:
            return True
        return self._now + runtime <= self._wall.end

    @property
    def _closing_at(self) -> float:
        """From here on nothing is started, even if nothing that runs has to be asked yet."""
        if not self._wall.known:
            return p.NEVER
        return (
            self._wall.kill_at - self.state.workflow.execution.sigterm_lead_seconds * self._wall.grace_scale
        )

    def _begin_wall_time_if_due(self, job_id: JobId) -> None:
        """The first job that is asked because of wall time closes the run for new ones; others go on."""
        phase = self._phases.get(job_id)
        if (
            self.ending is None
            and isinstance(phase, p.Terminating | p.Killing)
            and phase.why is StopReason.WALL_TIME
        ):
            self._begin_ending(StopReason.WALL_TIME, "the end of the allocation is near")

    def _begin_ending(self, why: StopReason, what: str, *, hint: bool = False) -> None:
        self.ending = Ending(why, self._now)
        if why is not StopReason.WALL_TIME:  # there each job has its own moment
            for job_id in list(self._phases):
                self._ask(job_id, why)
        asked = killed = waiting = 0
        latest = self._now
        for phase in self._phases.values():
            match phase:
                case p.Terminating(kill_at=kill_at):
                    asked += 1
                    latest = max(latest, kill_at)
                case p.Killing():
                    killed += 1
                case p.Running(ask_kill_at=kill_at):
                    waiting += 1
                    latest = max(latest, kill_at)
        self._write(
            r.TerminationStarted(
                self.state.run_id,
                why.value,
                asked,
                killed,
                what if why is StopReason.SIGNAL else None,
                round(latest - self._now, 3),
            )
        )
        self._say(_announcement(what, why, asked, killed, waiting, latest - self._now, hint=hint))
        self.on_leaving()

    def _ask(self, job_id: JobId, why: StopReason) -> None:
        phase = self._phases[job_id]
        policy = getattr(phase, "policy", None)
        if isinstance(policy, p.Policy):
            self._feed(job_id, e.StopAsked(why, deadlines.kill_at(policy, self._now, self._wall)))

    def _kill_all(self) -> None:
        live = [j for j, phase in self._phases.items() if p.pgid_of(phase) is not None]
        if self.ending is None:
            self.ending = Ending(StopReason.SIGNAL, self._now)
        self.ending = replace(self.ending, hurried=True)
        for job_id in live:
            self._feed(job_id, e.KillAsked(self.ending.why))
        self._say(f"second SIGINT: {len(live)} jobs killed at once")

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
            at = p.deadline(after)
            if at < p.NEVER:
                heapq.heappush(self._deadlines, (at, job_id))
        if isinstance(after, p.Reaping) or (
            isinstance(after, p.Abandoned | p.Finished | p.PutBack)
            and isinstance(before, p.Starting | p.Killing | p.Lingering)
        ):
            self._scheduler.release(job_id)

    def _act(self, job_id: JobId, action: a.Action) -> None:
        state = self.state
        match action:
            case a.SignalGroup() | a.SignalLeader() | a.Reap() | a.Verify():
                self._orders.append(Order(job_id, action))
            case a.NoteSignal(pgid=pgid, signum=signum, why=why):
                attempt = state.attempt[job_id]
                self._write(
                    r.JobSignaled(state.run_id, job_id, attempt, pgid, signal_name(signum), why.value)
                )
            case a.NoteLeftovers(members=members):
                name = state.job(job_id).name
                noun = "process" if members == 1 else "processes"
                self.warn("leftovers", f"job '{name}' exited and left {members} {noun} behind", job_id)
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
            end_known=self._wall.known,
            verified=verified,
            checkpoint=job.checkpoint,
        )
        record = self.samples.complete(job_id, record)
        if verified is None and outcome.why is None and job.output_files:
            self.warn("unverified", f"job '{job.name}': its output files could not be looked at", job_id)
        if record.missing_outputs:
            names = ", ".join(record.missing_outputs)
            self.warn("missing_outputs", f"job '{job.name}' exited 0 without its outputs: {names}", job_id)
        self._write(record)
        self._announce_canceled(job_id, record)

    def _record_failed_start(self, job_id: JobId, message: str) -> None:
        state = self.state
        attempt = state.attempt_of(job_id)
        self._write(r.JobStarted(state.run_id, job_id, attempt, 0, 0))
        record = r.JobEnded(
            state.run_id,
            job_id,
            attempt,
            Status.FAILED.value,
            "not_started",
            126,
            start_time=self._t,
            exec_time_seconds=0.0,
            error=message,
        )
        self.warn("not_started", f"job '{state.job(job_id).name}' cannot be started: {message}", job_id)
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
        ready = self.state.apply(self._t, self._now, record)
        if ready and self.ending is None:
            self._scheduler.add(self.state.job(job_id) for job_id in ready)
        self._orders.append(Write(record))

    def _say(self, text: str) -> None:
        self._orders.append(Say(text))

    def _is_stale(self, at: float, job_id: JobId) -> bool:
        phase = self._phases.get(job_id)
        return phase is None or p.deadline(phase) != at

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


def _announcement(
    what: str, why: StopReason, asked: int, killed: int, waiting: int, seconds: float, *, hint: bool
) -> str:
    """ "SIGTERM received: 3 jobs asked to save, 2 killed, waiting up to 28 s"."""
    heading = f"{what} received" if why in (StopReason.SIGNAL, StopReason.CANCEL) else what
    if not (asked or killed or waiting):
        return f"{heading}: nothing is running"
    parts = []
    if asked:
        parts.append(f"{asked} {'job' if asked == 1 else 'jobs'} asked to save")
    if killed:
        parts.append(f"{killed} killed" if parts else f"{killed} {'job' if killed == 1 else 'jobs'} killed")
    if waiting:
        parts.append(f"{waiting} still computing until their own time")
    if asked or waiting:
        parts.append(f"waiting up to {seconds:.0f} s")
    if hint and asked:
        parts.append("press Ctrl-C again to kill them at once")
    return f"{heading}: {', '.join(parts)}"
