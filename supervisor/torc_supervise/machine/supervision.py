"""Supervision: one whole run, decided without a system call.

Holds the phase of every live attempt and what the run as a whole is about (working, or ending and why).  Fed with
what happened and the time, it answers with orders for the loop.  It owns the WorkflowState and folds every record
into it at the moment it issues it, so the live state is the state that a reader of the journal will come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from signal import SIGINT

from msgspec.structs import replace

from torc_supervise.capacity import Placement
from torc_supervise.exitstatus import Exit, Usage
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import orders as o
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.asking import Asking
from torc_supervise.machine.books import Books
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.errands import Answer, Errand, Errands
from torc_supervise.machine.interrupts import Interrupts
from torc_supervise.machine.limits import Limits
from torc_supervise.machine.orders import Do, Ending, NewEnd, Order, Say, Start, Write
from torc_supervise.machine.pace import Pace
from torc_supervise.machine.result import signal_name
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import RunState, StopReason
from torc_supervise.machine.step import step
from torc_supervise.machine.table import ProcessTable
from torc_supervise.scheduler import Scheduler
from torc_supervise.workflow.model import JobId

__all__ = ["Do", "Ending", "NewEnd", "Order", "Say", "Start", "Supervision", "Write"]


class Supervision:
    """All decisions of a run.

    Invariants (:meth:`check`): every job that is running in the state has a phase here; once ``ending`` is set nothing
    is started.
    """

    def __init__(
        self,
        state: WorkflowState,
        scheduler: Scheduler,
        wall: WallTime | None = None,
        errands: Sequence[Errand] = (),
        pace: Pace | None = None,
    ) -> None:
        self.state = state
        self.ending: Ending | None = None
        self._scheduler = scheduler
        self._limits = Limits(state.workflow.execution, wall or WallTime())
        self._books = Books(state, self._written)
        self.samples = self._books.samples
        self._asking = Asking(self._books.take_orders, self._ask)
        self.take_orders = self._asking.take_orders
        self.write, self.say, self.warn = self._books.write, self._books.say, self._books.warn
        self._errands = Errands(errands)
        self._table = ProcessTable()
        self._phases, self.is_draining = self._table.phases, self._table.is_draining
        self.groups = self._table.groups  # pgid -> job of all groups that may still have members
        self._placed: dict[JobId, Placement] = {}
        self._pace = pace or Pace()
        self._interrupts = Interrupts()

    # -- what the loop asks ---------------------------------------------------------------------------------

    def at(self, now: float, t: str) -> None:
        """Set the time for what follows: monotonic seconds, and wall time (UTC ISO 8601) for records."""
        self._books.now, self._books.t = now, t

    @property
    def now(self) -> float:
        return self._books.now

    @property
    def next_deadline(self) -> float:
        """The earliest moment at which ``tick`` has something to do."""
        if self._may_close or self._asking.busy:
            return self.now
        earliest = min(self._table.timers.earliest, self._errands.next_deadline, self._books.repeats.due)
        if self.ending is not None:
            return earliest
        if len(self._scheduler):
            earliest = min(earliest, self._pace.due if self._pace.due > self.now else p.NEVER)
        return min(earliest, self._limits.closing_at)

    @property
    def done(self) -> bool:
        """Nothing runs, nothing is being looked at, nothing more will start, and every errand was run."""
        return self._errands.closed and not self._errands.busy and self._nothing_left

    @property
    def _nothing_left(self) -> bool:
        if self._table.unfinished:
            return False
        return self.ending is not None or not len(self._scheduler) or self._scheduler.stuck

    @property
    def _may_close(self) -> bool:
        """Nothing is left of the jobs; what the errands do last is still to be done."""
        return not self._errands.closed and not self._errands.busy and self._nothing_left

    def phase(self, job_id: JobId) -> p.Phase | None:
        return self._phases.get(job_id)

    def outcome(self) -> RunState:
        return self.state.outcome()

    # -- what the loop reports ------------------------------------------------------------------------------

    def begin(self, record: r.RunStarted) -> None:
        """The run begins.  Until then nothing is started."""
        self.write(record)
        self._scheduler.add(self.state.job(job_id) for job_id in self.state.ready_jobs())
        for errand in self._errands.errands:
            errand.on_begin(self)

    def end(self, record: r.RunEnded) -> None:
        """The run is over; nothing may follow."""
        self._books.record_repeats(p.NEVER)
        left = list(filter(self._scheduler.runs_here, map(self.state.job, self.state.ready_jobs())))
        if left and (self.ending is None or self.ending.why is StopReason.WALL_TIME):
            self.warn("not_enough_time", o.not_started_text(left))
        self.write(record)

    def on_leader_exited(self, pgid: int, exit_: Exit | None, members: int, escaped: int = 0) -> None:
        self._asking.finish()  # one that is to be asked counts as asked: see loop.Loop._look
        self._feed(self.groups[pgid], e.LeaderExited(exit_, members, escaped))

    def on_group_changed(self, pgid: int, members: int) -> None:
        self._feed(self.groups[pgid], e.GroupChanged(members))

    def on_reaped(self, job_id: JobId, usage: Usage | None) -> None:
        self._feed(job_id, e.Reaped(usage))

    def on_verified(self, job_id: JobId, verified: e.Verified) -> None:
        if job_id in self._phases:
            self._feed(job_id, verified)

    def on_spawned(self, job_id: JobId, pgid: int, cgroup: str | None = None) -> None:
        """There is a process for the job; ``cgroup``: the name of its own, if it has one.

        Race: a termination signal arrived while the spawn was under way.  The signal's byte is read only after this
        call, and ``begin_ending`` reaches every job that is in the table; where ending began before (a start order
        of the same turn), the job is asked right here.  Either way it is signalled (P7).
        Test: test_supervision.py::test_p7_a_job_caught_in_the_act_of_starting_is_signalled_too.
        """
        self._pace.succeeded()
        job = self.state.job(job_id)
        starting = self._phases[job_id]
        assert isinstance(starting, p.Starting)
        attempt = self.state.attempt_of(job_id)
        self.groups[pgid] = job_id
        run_id, (gpus, nodes, _) = self.state.run_id, self._placed[job_id]
        self.write(r.JobStarted(run_id, job_id, attempt, pgid, pgid, gpus or None, nodes or None, cgroup))
        self._feed(job_id, self._limits.spawned(starting.policy, job, pgid, self.now))
        if self.ending is not None:
            if self.ending.hurried:
                self._feed(job_id, e.KillAsked(self.ending.why))
            else:
                self._ask(job_id)

    def on_spawn_refused(self, job_id: JobId, errno: int) -> None:
        self._feed(job_id, e.SpawnRefused(errno))

    def on_spawn_failed(self, job_id: JobId, errno: int, message: str) -> None:
        self._feed(job_id, e.SpawnFailed(errno, message))

    def on_signal(self, signum: int) -> None:
        """The supervisor itself was signalled.  Only the first request counts; a second Ctrl-C kills at once."""
        self._asking.finish()
        self._heed(signum)
        for errand in self._errands.errands:
            errand.on_signal(self, signum)

    def _heed(self, signum: int) -> None:
        news = self._books.signal_received(name := signal_name(signum))
        if signum == SIGINT and self._interrupts.is_second(self.now):
            self._kill_all()
        elif self._some_compute_on:
            self._begin_ending(StopReason.SIGNAL, name, hint=signum == SIGINT)
        elif news:
            self.say(f"{name} received again: already ending, {o.jobs_text(self._table.unfinished)} left")

    def on_owner_changed(self, owner: str) -> None:
        """Somebody took the workflow over, believing this supervisor gone: nothing is recorded any more, only ended."""
        self._asking.finish()
        if self.ending is None or self.ending.why is not StopReason.OWNER_CHANGED:
            self._begin_ending(StopReason.OWNER_CHANGED, f"the workflow belongs to {owner} now")

    def on_cancel(self, allocations: Iterable[str] = ()) -> None:
        """Somebody canceled the workflow, and these queued allocations: jobs that still run end as canceled.

        Race: a cancel that goes through Slurm may come as a signal first and with its meaning a little later.
        Test: test_supervision.py::test_a_signal_that_turns_out_to_be_a_cancel_is_recorded_as_one.
        """
        self._asking.finish()
        for slurm_job_id in self.state.allocations.not_canceled(allocations):
            self.write(r.AllocationEnded(slurm_job_id, "canceled"))
        if not self.state.canceled:
            self.write(r.WorkflowCanceled(self.state.run_id))
        if self._some_compute_on:
            self._begin_ending(StopReason.CANCEL, "cancel")
        elif self.ending is not None and self.ending.why is StopReason.SIGNAL:
            self.ending = replace(self.ending, why=StopReason.CANCEL)
            for job_id in list(self._phases):
                self._feed(job_id, e.CancelNoted())

    def on_sample(self, job_id: JobId, memory_bytes: int, cpu_percent: float, at_limit: bool) -> None:
        """The sampler looked at a job's processes; ``at_limit``: they use more than the job asked for."""
        self._asking.finish()
        if job_id not in self._phases:
            return
        self.samples.add(job_id, memory_bytes, cpu_percent)
        if at_limit and isinstance(self._phases[job_id], p.Running):
            self.say(o.memory_text(self.state.job(job_id), memory_bytes))
            self._feed(job_id, e.KillAsked(StopReason.MEMORY_LIMIT))

    def on_chore_done(self, chore_id: int, answer: Answer) -> None:
        """The keeper did a chore, or a keeper died over it."""
        self._errands.done(self, chore_id, answer)

    def on_leaving(self, at_most: float = p.NEVER) -> None:
        """Everything is asked to be quick: waits without an end get one, ``at_most`` seconds away."""
        for job_id in [j for j, phase in self._phases.items() if isinstance(phase, p.Verifying)]:
            self._feed(job_id, e.LeavingAsked(self._limits.verify_until(self.now, at_most)))

    def tick(self) -> None:
        """Feed the clock to every phase whose deadline has come."""
        self._asking.finish()
        self._books.record_repeats(self.now)
        wall_time = False
        for job_id in self._table.timers.due(self.now):
            before = self._phases[job_id]
            self._feed(job_id, self._limits.clock(before, self.now))
            if isinstance(before, p.Running) and before.ask_why is StopReason.RUNTIME_LIMIT:
                self.say(o.runtime_text(self.state.job(job_id)))
            wall_time = wall_time or self._was_asked_for_wall_time(job_id)
        # The first job that is asked because of wall time closes the run for new ones; others go on.
        if self.ending is None and (wall_time or self.now >= self._limits.closing_at):
            self._begin_ending(StopReason.WALL_TIME, "the end of the allocation is near")
        for errand in self._errands.errands:
            errand.on_tick(self)
        if self._may_close:
            self._errands.close(self)

    def start_next(self) -> bool:
        """Order one more start if there is room.  Nothing starts once termination was asked for (P7)."""
        if self.ending is not None or self._pace.due > self.now or self._errands.hold_starts:
            return False
        taken = self._scheduler.take(lambda job: self._limits.fits_in_time(job, self.now))
        if taken is None:
            return False
        job, placement = taken
        self._pace.take(self.now)
        self._placed[job.job_id] = placement
        self._phases[job.job_id] = p.Starting(self._limits.policy(job))
        self._books.orders.append(Start(job, self.state.attempt_of(job.job_id), placement))
        return True

    # -- what errands ask: see errands.Desk -----------------------------------------------------------------

    @property
    def wall(self) -> WallTime:
        return self._limits.wall

    @property
    def nothing_runs(self) -> bool:
        return not self._table.unfinished

    def move_end(self, wall: WallTime) -> None:
        self._asking.finish()
        self._limits = replace(self._limits, wall=wall)
        for job_id, phase in list(self._phases.items()):
            moved = self._limits.end_moved(phase, self.state.job(job_id), self.now)
            if moved is not None:
                self._feed(job_id, moved)
        self._books.orders.append(NewEnd(wall))
        if self.ending is not None:
            self.on_leaving()

    def end_run(self, why: StopReason, what: str) -> None:
        if self._some_compute_on:
            self._begin_ending(why, what)

    def do(self, errand: Errand, kind: str, body: Answer, *, once: bool = False) -> int:
        order = self._errands.chore(errand, kind, body, once=once)
        self._books.orders.append(order)
        return order.chore_id

    # -- deciding -------------------------------------------------------------------------------------------

    @property
    def _some_compute_on(self) -> bool:
        """Nobody has asked all jobs to end yet; when wall time closes a run, each is asked at its own moment."""
        return self.ending is None or self.ending.why is StopReason.WALL_TIME

    def _was_asked_for_wall_time(self, job_id: JobId) -> bool:
        phase = self._phases.get(job_id)
        return isinstance(phase, p.Terminating | p.Killing) and phase.why is StopReason.WALL_TIME

    def _begin_ending(self, why: StopReason, what: str, *, hint: bool = False) -> None:
        self.ending = Ending(why, self.ending.since if self.ending is not None else self.now)
        jobs = () if why is StopReason.WALL_TIME else self._phases  # there each job has its own moment
        self._asking.begin(jobs, lambda: self._announce_ending(why, what, hint=hint))
        for errand in self._errands.errands:
            errand.on_ending(self)

    def _announce_ending(self, why: StopReason, what: str, *, hint: bool) -> None:
        tally = o.Tally.of(self._phases.values(), self.now)
        signal = what if why is StopReason.SIGNAL else None
        run_id, seconds = self.state.run_id, round(tally.seconds, 3)
        self.write(r.TerminationStarted(run_id, why.value, tally.asked, tally.killed, signal, seconds))
        self.say(o.announcement(what, why, tally, hint=hint))
        self.on_leaving()

    def _ask(self, job_id: JobId) -> None:
        assert self.ending is not None
        policy = getattr(self._phases.get(job_id), "policy", None)
        if isinstance(policy, p.Policy):
            self._feed(job_id, e.StopAsked(self.ending.why, self._limits.kill_at(policy, self.now)))

    def _kill_all(self) -> None:
        assert self.ending is not None, "the first interrupt began it"
        again, self.ending = self.ending.hurried, replace(self.ending, hurried=True)
        live = [j for j, phase in self._phases.items() if isinstance(phase, _MAY_BE_KILLED)]
        for job_id in live:
            self._feed(job_id, e.KillAsked(self.ending.why))
        if live or not again:
            self.say(f"second SIGINT: {o.jobs_text(len(live))} killed at once")
        for errand in self._errands.errands:
            errand.on_ending(self)

    def _feed(self, job_id: JobId, event: e.Event) -> None:
        """One step of one job, and what follows for the table, the books and the loop."""
        before = self._phases.get(job_id, _FINISHED)
        after, actions = step(before, event, self.now)
        if after is not before:
            self._replace(job_id, before, after)
        for action in actions:
            self._act(job_id, action)

    def _replace(self, job_id: JobId, before: p.Phase, after: p.Phase) -> None:
        self._table.replace(job_id, before, after)
        if p.gives_back(before, after):
            self._scheduler.release(job_id)

    def _act(self, job_id: JobId, action: a.Action) -> None:
        state = self.state
        match action:
            case a.SignalGroup() | a.SignalLeader() | a.Reap() | a.Verify():
                self._books.orders.append(Order(job_id, action))
                if isinstance(action, a.Verify) and self.ending is not None:
                    self._feed(job_id, e.LeavingAsked(self._limits.verify_until(self.now)))
            case a.NoteSignal(pgid=pgid, signum=signum, why=why):
                attempt = state.attempt[job_id]
                self.write(r.JobSignaled(state.run_id, job_id, attempt, pgid, signal_name(signum), why.value))
            case a.NoteLeftovers(members=members, escaped=escaped):
                self._books.left_behind(job_id, members, escaped)
            case a.RecordResult(outcome=outcome, started=started, verified=verified):
                self._books.result(job_id, outcome, started, verified, end_known=self._limits.wall.known)
            case a.RecordFailedStart(message=message):
                self._books.failed_start(job_id, message)
            case a.ReturnToReady(errno=errno):
                self._put_back(job_id, errno)

    def _put_back(self, job_id: JobId, errno: int) -> None:
        """P11: the job is as ready as before; the machine gets a pause that grows while it stays full."""
        message = self._pace.refused(self.now, errno)
        self._scheduler.add([self.state.job(job_id)])
        if message is not None:
            self.warn("machine_full", message, job_id)

    def _written(self, record: r.Record, ready: tuple[JobId, ...]) -> None:
        if ready and self.ending is None:
            self._scheduler.add(self.state.job(job_id) for job_id in ready)
        for errand in self._errands.listeners(record):
            errand.on_record(self, record)

    # -- checking -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if an invariant does not hold."""
        self._table.check()
        books = {j for j, ph in self._phases.items() if not isinstance(ph, p.Starting | p.Abandoned)}
        assert set(self.state.live) == books, "live"
        self.state.check()
        self._scheduler.check()


_FINISHED = p.Finished()
_MAY_BE_KILLED = p.Running | p.Terminating | p.Lingering
