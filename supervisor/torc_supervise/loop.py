"""The one selector loop.  It turns what the kernel says into events, and orders into system calls; it decides nothing.

Nothing in a turn may wait: spawning waits for an exec on a local disk, everything else is memory, signals and /proc
(P8).  One turn: wait for a descriptor or the next deadline; see who died; take signals; let deadlines pass; start a few
jobs; hand the keeper its lines.
"""

from __future__ import annotations

import itertools
import os
import selectors
import signal
from collections.abc import Callable, Iterable

from torc_supervise.helpers import messages
from torc_supervise.helpers.link import KeeperLink, SamplerLink
from torc_supervise.helpers.staff import Staff
from torc_supervise.launch import Launcher
from torc_supervise.machine import actions as a
from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.step import LEFTOVER_GRACE
from torc_supervise.machine.supervision import Do, Order, Say, Start, Supervision, Write
from torc_supervise.posix.clock import LONGEST_WAIT
from torc_supervise.posix.escaped import end_escaped
from torc_supervise.posix.kernel import Kernel
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER, NotNowError, Sweep
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.posix.wakeup import Wakeup
from torc_supervise.workflow.model import JobId

STARTS_PER_TURN = 8
"""A burst of starts is cut into turns, so that a signal which arrives meanwhile waits for this many at most."""


LOOKED_AT_PER_TURN = 16
"""Jobs whose processes are looked at in a row, for the same reason."""


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
    ) -> None:
        self._supervision = supervision
        self._kernel = kernel
        self._wakeup = wakeup
        self._launcher = launcher
        self._keeper = keeper
        self._selector = selectors.DefaultSelector()
        self._staff = Staff(self._selector, keeper, sampler, self._on_keeper, self._on_sampler, self._warn)
        self._watched: dict[int, int] = {}  # pid of a group member that is not our child -> its pidfd
        self._to_pass_on: dict[int, int] = {}  # group -> the signal it got, and what has left it did not yet
        self._may_start_more = True
        self._children_changed = False
        self._look_again_at = NEVER
        self._leaving = False  # the last record is written
        self._selector.register(wakeup, selectors.EVENT_READ, self._on_wakeup)

    def run(self, end: float = NEVER) -> None:
        """Until nothing runs and nothing more will start.

        Args:
            end: of the allocation, monotonic seconds.
        """
        while not self._supervision.done:
            self.turn()
        self._end_escaped(end)

    def turn(self) -> None:
        """One round; returns early only when something happened or a deadline came."""
        supervision = self._supervision
        ready = self._selector.select(self._timeout())
        supervision.at(self._kernel.monotonic(), self._kernel.wall())
        signals: list[int] = []
        for key, mask in ready:
            signals += key.data(mask)
        # Exits before signals: a job that ended before the signal went out keeps its own status.
        self._sweep_if_due()
        for signum in signals:
            supervision.on_signal(signum)
        supervision.tick()
        self._obey()
        self._pass_on_some()
        self._start_some()
        self._replace_helpers()
        self._staff.flush()

    def _end_escaped(self, end: float) -> None:
        """What left its job's group gets the grace of leftovers, less where the end or the user is in a hurry (P5)."""
        ending, left = self._supervision.ending, max(0.0, end - self._kernel.monotonic())
        grace = 0.0 if ending is not None and ending.hurried else min(LEFTOVER_GRACE, left / 4)
        signum = signal.Signals[self._supervision.state.workflow.execution.termination_signal]
        if count := end_escaped(self._kernel, signum, grace, self._wait):
            noun = "process" if count == 1 else "processes"
            self._warn("escaped", f"{count} {noun} of no job that still ran had escaped: ended")
            self._obey()

    def _wait(self, until: float) -> list[int]:
        """One round of a run without jobs, until something happened; returns the signals that were received."""
        deadline = min(until, self._look_again_at, self._staff.keeper_due)
        timeout = 0.0 if self._children_changed else self._until(deadline)
        signals = [signum for key, mask in self._selector.select(timeout) for signum in key.data(mask)]
        self._supervision.at(self._kernel.monotonic(), self._kernel.wall())
        self._sweep_if_due()
        self._obey()
        self._replace_helpers()
        self._staff.flush()
        return signals

    def fds(self) -> list[int]:
        """Descriptors that a newly forked helper must close."""
        own = [channel.fileno() for channel in self._staff.channels()]
        return [*own, *self._wakeup.fds(), self._selector.fileno(), *self._watched.values()]

    def wait_for_keeper(self, until: float) -> bool:
        """Keep turning until the keeper has confirmed everything and is gone; False if ``until`` came first.

        Args:
            until: monotonic seconds.
        """
        self._leaving = True
        while not self._keeper.gone:
            if self._kernel.monotonic() >= until:
                return False
            self._wait(until)
        return True

    def write_now(self) -> None:
        """Hand orders that were given outside of a turn to the keeper."""
        self._obey()
        self._staff.flush()

    def close(self) -> None:
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._selector.close()
        self._staff.close()

    # -- what wakes us --------------------------------------------------------------------------------------

    def _timeout(self) -> float | None:
        if self._may_start_more or (self._to_pass_on and self._look_again_at == NEVER):
            return 0.0
        deadline = min(self._supervision.next_deadline, self._look_again_at, self._staff.due)
        return None if deadline == NEVER else self._until(deadline)

    def _until(self, deadline: float) -> float:
        """Seconds to wait, possibly only a part of the way: whoever waits looks at the clock again."""
        return min(LONGEST_WAIT, max(0.0, deadline - self._kernel.monotonic()))

    def _on_wakeup(self, mask: int) -> Iterable[int]:
        raised = self._wakeup.take()
        if signal.SIGCHLD in raised:
            self._children_changed = True
        return [signum for signum in raised if signum != signal.SIGCHLD]

    def _on_keeper(self, mask: int) -> Iterable[int]:
        if mask & selectors.EVENT_READ:
            self._hear_keeper()
            if self._keeper.channel.closed:
                self._staff.disconnect(self._keeper.channel)
        return ()

    def _hear_keeper(self) -> None:
        before = self._keeper.confirmed
        for line in self._keeper.receive():
            match line[:1]:
                case b"V":
                    answer = messages.body(line)
                    self._supervision.on_verified(
                        answer["job_id"],
                        Verified(
                            tuple(answer["missing"]),
                            tuple((name, mtime) for name, mtime in answer["seen"]),
                            answer["checkpoint_saved"],
                        ),
                    )
                case b"X":
                    answer = messages.body(line)
                    self._supervision.on_chore_done(answer["chore_id"], answer["answer"])
                case b"C":
                    self._supervision.on_cancel()
                case b"W":
                    warning = messages.body(line)
                    self._warn(warning["code"], warning["message"])
        if self._keeper.confirmed > before:
            self._staff.keeper_worked()

    def _on_sampler(self, mask: int) -> Iterable[int]:
        sampler = self._staff.sampler
        assert sampler is not None
        for job_id, memory, cpu, at_limit in sampler.receive():
            self._staff.sampler_worked()
            self._supervision.on_sample(job_id, memory, cpu, at_limit)
        if sampler.channel.closed:
            self._staff.disconnect(sampler.channel)
        return ()

    def _on_watched(self, pid: int) -> Callable[[int], Iterable[int]]:
        def ended(mask: int) -> Iterable[int]:
            descriptor = self._watched.pop(pid)
            self._selector.unregister(descriptor)  # it stays readable for ever
            os.close(descriptor)
            self._look(self._kernel.look_again)
            return ()

        return ended

    # -- what the kernel said -------------------------------------------------------------------------------

    def _sweep_if_due(self) -> None:
        if self._children_changed or self._look_again_at <= self._kernel.monotonic():
            self._children_changed, self._look_again_at = False, NEVER
            self._look(self._kernel.sweep)

    def _look(self, look: Callable[[], Sweep]) -> None:
        try:
            sweep = look()
        except NotNowError:
            self._look_again_soon()
        else:
            self._report(sweep)

    def _look_again_soon(self) -> None:
        self._look_again_at = self._kernel.monotonic() + LOOK_AGAIN_AFTER

    def _report(self, sweep: Sweep) -> None:
        supervision = self._supervision
        draining = set(supervision.draining()) if sweep.members else set()
        for pgid, exit_ in sweep.exited:
            if pgid in supervision.groups:
                escaped = len(sweep.escaped.get(pgid, ()))
                supervision.on_leader_exited(pgid, exit_, len(sweep.members[pgid]), escaped)
            else:  # abandoned twice over; nobody's business any more
                self._kernel.collect(pgid)
        for pgid in draining:
            if pgid in sweep.members and pgid in supervision.groups:
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
        now, sampler = self._kernel.monotonic(), self._staff.sampler
        for pid, exit_ in sweep.helpers:
            if pid == self._keeper.pid:
                self._hear_keeper()
                for chore_id in self._staff.bury_keeper(exit_, now):
                    self._supervision.on_chore_done(chore_id, {"ok": False, "lost": True})
            elif sampler is not None and pid == sampler.pid:
                self._staff.bury_sampler(exit_, now, replace=not self._leaving)

    # -- what is to be done ---------------------------------------------------------------------------------

    def _obey(self) -> None:
        while orders := self._supervision.take_orders():
            self._keeper.before_signals()
            for order in orders:
                match order:
                    case Write(record=record, t=t, mono=mono):
                        self._keeper.write(t, mono, record)
                    case Order(job_id=job_id, action=action):
                        self._perform(job_id, action)
                    case Start():
                        self._start(order)
                    case Say(text=text):
                        self._keeper.say(text)
                    case Do():
                        self._keeper.ask_for(order)

    def _perform(self, job_id: JobId, action: a.SignalGroup | a.SignalLeader | a.Reap | a.Verify) -> None:
        match action:
            case a.SignalGroup(pgid=pgid, signum=signum):
                self._kernel.signal_group(pgid, signum)
                if signum != signal.SIGCONT:
                    self._to_pass_on[pgid] = signum
            case a.SignalLeader(pid=pid, signum=signum):
                self._kernel.signal_process(pid, signum)
            case a.Reap(pid=pid):
                usage = self._kernel.collect(pid)
                self._to_pass_on.pop(pid, None)
                if self._staff.sampler is not None:
                    self._staff.sampler.forget(job_id)
                self._supervision.on_reaped(job_id, usage)
            case a.Verify(outcome=outcome):
                job = self._supervision.state.job(job_id)
                self._keeper.inspect(job, self._supervision.state, asked=outcome.why is not None)

    def _pass_on_some(self) -> None:
        """After all groups were signalled, what has left them: for that each job's processes are looked at (P5)."""
        some = dict(itertools.islice(self._to_pass_on.items(), LOOKED_AT_PER_TURN))
        if not some:
            return
        try:
            self._kernel.signal_outside(some)
        except NotNowError:
            self._look_again_soon()
        else:
            for pgid in some:
                del self._to_pass_on[pgid]

    def _start_some(self) -> None:
        self._may_start_more = False
        for _ in range(STARTS_PER_TURN):
            if not self._supervision.start_next():
                return
            self._obey()
            # At once, not at the end of the turn: if we are killed, the keeper ends only what it has heard of (P10).
            self._staff.flush()
        self._may_start_more = True

    def _start(self, order: Start) -> None:
        job, supervision = order.job, self._supervision
        supervision.at(self._kernel.monotonic(), self._kernel.wall())
        try:
            pid = self._launcher.launch(
                self._kernel, job, supervision.state.run_id, order.attempt_id, order.gpus
            )
        except SpawnRefusedError as error:
            supervision.on_spawn_refused(job.job_id, error.errno)
        except SpawnFailedError as error:
            supervision.on_spawn_failed(job.job_id, error.errno, str(error))
        else:
            supervision.on_spawned(job.job_id, pid)
            if self._staff.sampler is not None:
                self._staff.sampler.watch(job, pid)

    # -- helpers --------------------------------------------------------------------------------------------

    def _replace_helpers(self) -> None:
        self._staff.replace_if_due(self._kernel.monotonic(), self._supervision.state, self.fds)
        self._obey()

    def _warn(self, code: str, message: str) -> None:
        """Once the run's last record is written, only people can be told."""
        if self._leaving:
            self._keeper.say(f"warning: {message}")
        else:
            self._supervision.warn(code, message)
