"""The one selector loop.  It turns what the kernel says into events, and orders into system calls; it decides nothing.

Nothing in a turn may wait: spawning waits for an exec on a local disk, everything else is memory, signals and /proc
(P8).  One turn: wait for a descriptor or the next deadline; see who died; take signals; let deadlines pass; start a few
jobs; hand the keeper its lines.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable

from torc_supervise.helpers.hearing import pass_on
from torc_supervise.helpers.link import KeeperLink, SamplerLink
from torc_supervise.helpers.staff import LOOK_LIMIT, Staff
from torc_supervise.launch import Launcher, Started
from torc_supervise.machine import actions as a
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.records import JobEnded
from torc_supervise.machine.step import LEFTOVER_GRACE
from torc_supervise.machine.supervision import Do, NewEnd, Order, Say, Start, Supervision, Write
from torc_supervise.posix.clock import LONGEST_WAIT
from torc_supervise.posix.escaped import end_escaped
from torc_supervise.posix.kernel import Kernel
from torc_supervise.posix.outsiders import Unreached
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER, NotNowError, Sweep
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.posix.wakeup import NUDGE, Wakeup
from torc_supervise.workflow.model import JobId

TERM_FOLLOWS_WITHIN = 2.0
"""Seconds after Slurm's SIGCONT in which its SIGTERM is expected."""

SLURM_MAY_BE_AHEAD = 2.0
"""Seconds by which Slurm's signal to a job may come before our own: what was saved then was saved because of it."""


class Loop:
    """Runs one Supervision until it is done."""

    def __init__(
        self,
        supervision: Supervision,
        kernel: Kernel,
        wakeup: Wakeup,
        launcher: Launcher,
        keeper: KeeperLink,
        sampler: SamplerLink | None = None,
        *,
        signals_first: bool = False,
    ) -> None:
        self._supervision = supervision
        self._kernel = kernel
        self._wakeup = wakeup
        self._launcher = launcher
        self._keeper = keeper
        self._selector = selectors.DefaultSelector()
        self.staff = Staff(self._selector, keeper, sampler, self._on_keeper, self._on_sampler, self._warn)
        self._watched: dict[int, int] = {}  # pid of a group member that is not our child -> its pidfd
        self._unreached = Unreached(kernel.signal_outside, self._look_again_soon)
        self._may_start_more = True
        self._children_changed = False
        self._look_again_at = NEVER
        self._leaving = False  # the last record is written
        self._signals_first = signals_first
        self._signals: list[int] = []  # received and not reported yet
        self._hold_until = -NEVER  # until then exits wait for a signal that is on its way
        self._held: list[Sweep] = []
        self._selector.register(wakeup, selectors.EVENT_READ, self._on_wakeup)

    def run(self) -> None:
        """Until nothing runs and nothing more will start."""
        while not self._supervision.done:
            self.turn()
        self._end_escaped()

    def turn(self) -> None:
        """One round; returns early only when something happened or a deadline came."""
        supervision = self._supervision
        ready = self._selector.select(self._timeout())
        supervision.at(self._kernel.monotonic(), self._kernel.wall())
        for key, mask in ready:
            key.data(mask)
        # Exits before signals: a job that ended before the signal went out keeps its own status.  Not so in an
        # allocation, see _look.
        self._sweep_if_due()
        if self._signals:
            self._report_signals()
            with self._wakeup.children_later():
                self._obey()  # before the clock is looked at: what was just asked for goes out a few jobs at a time
        supervision.tick()
        self._obey()
        self._unreached.reach_some()
        self._start_some()
        self._replace_helpers()
        self.staff.flush()

    def _end_escaped(self) -> None:
        """What left its job's group gets the grace of leftovers, less where the end or the user is in a hurry (P5)."""
        ending, end = self._supervision.ending, self._supervision.wall.end
        left = max(0.0, end - self._kernel.monotonic())
        grace = 0.0 if ending is not None and ending.hurried else min(LEFTOVER_GRACE, left / 4)
        signum = signal.Signals[self._supervision.state.workflow.execution.termination_signal]
        if count := end_escaped(self._kernel, signum, grace, self._wait):
            self._warn("escaped", f"ended processes of no job that still ran: {count}")
            self._obey()

    def _wait(self, until: float) -> list[int]:
        """One round of a run without jobs, until something happened; returns the signals that were received."""
        deadline = min(until, self._look_again_at, self.staff.keeper_due)
        timeout = 0.0 if self._children_changed else self._until(deadline)
        for key, mask in self._selector.select(timeout):
            key.data(mask)
        signals, self._signals = self._signals, []
        self._supervision.at(self._kernel.monotonic(), self._kernel.wall())
        self._sweep_if_due()
        self._obey()
        self._replace_helpers()
        self.staff.flush()
        return signals

    def fds(self) -> list[int]:
        """Descriptors that a newly forked helper must close."""
        own = [channel.fileno() for channel in self.staff.channels()]
        return [*own, *self._wakeup.fds(), self._selector.fileno(), *self._watched.values()]

    def wait_for_keeper(self, until: float) -> bool:
        """Keep turning until the keeper has confirmed everything and is gone; False if ``until`` came first.

        Args:
            until: monotonic seconds.
        """
        self._leaving = True
        while not (self._keeper.gone or self.staff.vacant):
            if self._kernel.monotonic() >= until:
                return False
            self._wait(until)
        return True

    def write_now(self) -> None:
        """Hand orders that were given outside of a turn to the keeper."""
        self._obey()
        self.staff.flush()

    def close(self) -> None:
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._selector.close()
        self.staff.close()

    # -- what wakes us --------------------------------------------------------------------------------------

    def _timeout(self) -> float | None:
        holding = self._holding
        if self._may_start_more or self._unreached or (self._children_changed and not holding):
            return 0.0
        look = self._hold_until if holding else self._look_again_at
        deadline = min(self._supervision.next_deadline, look, self.staff.due)
        return None if deadline == NEVER else self._until(deadline)

    def _until(self, deadline: float) -> float:
        """Seconds to wait, possibly only a part of the way: whoever waits looks at the clock again."""
        return min(LONGEST_WAIT, max(0.0, deadline - self._kernel.monotonic()))

    def _on_wakeup(self, mask: int) -> None:
        raised = self._wakeup.take()
        if signal.SIGCHLD in raised:
            self._children_changed = True
        if set(raised) - {signal.SIGCHLD, signal.SIGCONT}:
            self._keeper.look_for_requests()  # a termination signal as well: it may be meant as a cancel
        if self._signals_first and signal.SIGCONT in raised:
            self._hold_until = self._kernel.monotonic() + TERM_FOLLOWS_WITHIN
        received = [signum for signum in raised if signum not in (signal.SIGCHLD, signal.SIGCONT, NUDGE)]
        if received:
            self._hold_until = -NEVER
            self._signals += received

    def _report_signals(self) -> None:
        signals, self._signals = self._signals, []
        for signum in signals:
            self._supervision.on_signal(signum)

    def _on_keeper(self, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            self._hear_keeper()
            if self._keeper.channel.closed:
                self.staff.disconnect(self._keeper.channel)

    def _hear_keeper(self) -> None:
        before = self._keeper.confirmed
        for line in self._keeper.receive():
            if self._leaving and line[:1] in b"XC":
                continue  # too late: nothing may follow the run's last record
            pass_on(line, self._supervision, self._warn)
        if self._keeper.confirmed > before:
            self.staff.keeper_worked()
            self._launcher.confirmed(self._keeper.confirmed)

    def _on_sampler(self, mask: int) -> None:
        sampler = self.staff.sampler
        assert sampler is not None
        for job_id, memory, cpu, at_limit in sampler.receive():
            self.staff.sampler_worked()
            self._supervision.on_sample(job_id, memory, cpu, at_limit)
        if sampler.channel.closed:
            self.staff.disconnect(sampler.channel)

    def _on_watched(self, pid: int) -> Callable[[int], None]:
        def ended(mask: int) -> None:
            descriptor = self._watched.pop(pid)
            self._selector.unregister(descriptor)  # it stays readable for ever
            os.close(descriptor)
            if self._holding:
                self._children_changed = True  # seen when the hold is over
            else:
                self._look(self._kernel.look_again)

        return ended

    # -- what the kernel said -------------------------------------------------------------------------------

    @property
    def _holding(self) -> bool:
        return self._kernel.monotonic() < self._hold_until and not self._supervision.done

    def _sweep_if_due(self) -> None:
        if self._holding:
            return
        if self._held:
            held, self._held = self._held, []
            self._on_wakeup(selectors.EVENT_READ)
            self._report_signals()
            for sweep in held:
                self._report(sweep)
        if self._children_changed or self._look_again_at <= self._kernel.monotonic():
            self._children_changed, self._look_again_at = False, NEVER
            self._look(self._kernel.sweep)

    def _look(self, look: Callable[[], Sweep]) -> None:
        """See who died.  In an allocation, and if one was hit itself, signals come before exits seen with them.

        Race: Slurm signals each process of a job, jobs and supervisor alike, in an order of its own.  A job that saves
        and exits 0 must not count as completed because its exit is seen before our own SIGTERM has come.  But SIGCONT
        goes out to all of them before the first SIGTERM does: after it exits wait a while for the signal that they may
        stem from (docs/decisions/0015).
        Test: test_loop.py::test_in_an_allocation_an_exit_waits_for_the_signal_that_it_stems_from.
        """
        try:
            sweep = look()
        except NotNowError:
            self._look_again_soon()
            return
        if (self._signals_first or sweep.was_hit) and not self._supervision.done:
            self._on_wakeup(selectors.EVENT_READ)
            if self._holding:
                self._held.append(sweep)
                return
            self._report_signals()
        self._report(sweep)

    def _look_again_soon(self) -> None:
        self._look_again_at = self._kernel.monotonic() + LOOK_AGAIN_AFTER

    def _report(self, sweep: Sweep) -> None:
        supervision = self._supervision
        draining = list(filter(supervision.is_draining, sweep.members))
        for pgid, exit_ in sweep.exited:
            if pgid in supervision.groups:
                supervision.on_leader_exited(pgid, exit_, len(sweep.members[pgid]), sweep.num_escaped(pgid))
            else:  # abandoned twice over; nobody's business any more
                self._kernel.collect(pgid)
        for pgid in draining:
            if pgid in supervision.groups:
                supervision.on_group_changed(pgid, len(sweep.members[pgid]))
        self._note_dead_helpers(sweep)
        for pid in sweep.strangers - self._watched.keys():
            descriptor = self._kernel.watch(pid)
            if descriptor is None:
                # Race: it ended between the look at /proc and this call, and nothing else may ever wake us for it.
                # (Or no descriptor is to be had: then this is how its end is noticed.)
                # Test: test_loop.py::test_a_member_that_ends_before_it_can_be_watched_is_noticed.
                self._look_again_soon()
                continue
            self._watched[pid] = descriptor
            self._selector.register(descriptor, selectors.EVENT_READ, self._on_watched(pid))

    def _note_dead_helpers(self, sweep: Sweep) -> None:
        """Race: a helper is found dead in a sweep before the end of its channel was read.

        Its channel must leave the selector before it is closed: the next channel may get the same descriptor number.
        And what the keeper said last is still in there: an answer that is lost would leave its job waiting for ever.
        Test: test_loop.py::test_a_keeper_that_is_swept_before_its_channel_was_read.
        """
        now, sampler = self._kernel.monotonic(), self.staff.sampler
        for pid, exit_ in sweep.helpers:
            if pid == self._keeper.pid:
                self._hear_keeper()
                for chore_id in self.staff.bury_keeper(exit_, now):
                    if self._leaving:
                        continue
                    self._supervision.on_chore_done(chore_id, {"ok": False, "lost": True})
            elif sampler is not None and pid == sampler.pid:
                self.staff.bury_sampler(exit_, now, replace=not self._leaving)

    # -- what is to be done ---------------------------------------------------------------------------------

    def _obey(self) -> None:
        self._keeper.before_signals(SLURM_MAY_BE_AHEAD if self._signals_first else 0.0)
        while orders := self._supervision.take_orders():
            starts: list[Start] = []
            for order in orders:
                match order:
                    case Write(record=record, t=t, mono=mono):
                        seq = self._keeper.write(t, mono, record)
                        if isinstance(record, JobEnded):
                            self._launcher.ended(record.job_id, seq)
                    case Order(job_id=job_id, action=action):
                        self._perform(job_id, action)
                    case Start():
                        starts.append(order)
                    case Say(text=text):
                        self._keeper.say(text)
                    case Do():
                        self._keeper.ask_for(order)
                    case NewEnd(wall=wall):
                        self._keeper.move_end(wall)
                        self._launcher.move_end(wall)
            if starts:
                self._start(starts)

    def _perform(self, job_id: JobId, action: a.SignalGroup | a.SignalLeader | a.Reap | a.Verify) -> None:
        match action:
            case a.SignalGroup(pgid=pgid, signum=signum):
                self._kernel.signal_group(pgid, signum)
                self._unreached.note(pgid, signum)
            case a.SignalLeader(pid=pid, signum=signum):
                self._kernel.signal_process(pid, signum)
            case a.Reap(pid=pid):
                usage = self._kernel.collect(pid)
                self._unreached.forget(pid)
                self.staff.forget(job_id)
                self._supervision.on_reaped(job_id, usage)
            case a.Verify(outcome=outcome):
                job = self._supervision.state.job(job_id)
                self._keeper.inspect(job, self._supervision.state, asked=outcome.why is not None)

    def _start_some(self) -> None:
        self._may_start_more = False
        for _ in range(self._launcher.burst):
            if not self._supervision.start_next():
                break
        else:
            self._may_start_more = True
        self._obey()

    def _start(self, orders: list[Start]) -> None:
        """Race: we are killed before the keeper hears of these.  It finds them by their environment (P10).  That what
        they depend on has completed, which nobody else knows, is handed to it before they begin, as far as its socket
        takes it: nobody waits for it here (P8, P9).
        Test: test_escapees.py::test_p3_a_job_does_not_get_the_cgroup_of_one_whose_end_is_not_on_record.
        """
        if any(order.job.depends_on for order in orders):
            self.staff.flush()
        started: list[Started] = []
        try:
            with self._wakeup.children_later() if len(orders) > 1 else contextlib.nullcontext():
                self._launcher.launch(self._kernel, orders, self._supervision.state.run_id, started)
        finally:
            for each in started:
                self._report_start(each)

    def _report_start(self, started: Started) -> None:
        job, supervision = started.job, self._supervision
        supervision.at(started.now, started.t)
        match started.came_to:
            case SpawnRefusedError(errno=errno):
                supervision.on_spawn_refused(job.job_id, errno)
            case SpawnFailedError(errno=errno) as error:
                supervision.on_spawn_failed(job.job_id, errno, str(error))
            case pid:
                supervision.on_spawned(job.job_id, pid, started.cgroup)
                self.staff.watch(job, pid)

    def _replace_helpers(self) -> None:
        self.staff.replace_if_due(self._kernel.monotonic(), self._supervision.state, self.fds)
        if self.staff.alone:
            self._supervision.on_leaving(LOOK_LIMIT)
        self._obey()

    def _warn(self, code: str, message: str) -> None:
        """Once the run's last record is written, only people can be told."""
        if self._leaving:
            self._keeper.say(f"warning: {message}")
        else:
            self._supervision.warn(code, message)
