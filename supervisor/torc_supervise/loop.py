"""The one selector loop.  It turns what the kernel says into events, and orders into system calls; it decides nothing.

Nothing in a turn may wait: spawning waits for an exec on a local disk, everything else is memory, signals and /proc
(P8).  One turn: wait for a descriptor or the next deadline; see who died; take signals; let deadlines pass; start a few
jobs; hand the keeper its lines.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterable

from torc_supervise.helpers import messages
from torc_supervise.helpers.channel import Channel
from torc_supervise.helpers.link import KeeperLink, Replacement, SamplerLink
from torc_supervise.launch import Launcher
from torc_supervise.machine import actions as a
from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.step import LEFTOVER_GRACE
from torc_supervise.machine.supervision import Order, Say, Start, Supervision, Write
from torc_supervise.posix.clock import LONGEST_WAIT
from torc_supervise.posix.escaped import end_escaped
from torc_supervise.posix.kernel import Kernel
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER, NotNowError, Sweep
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.posix.wakeup import NUDGE, Wakeup
from torc_supervise.workflow.model import JobId

STARTS_PER_TURN = 8
"""A burst of starts is cut into turns, so that a signal which arrives meanwhile waits for this many at most."""

SAMPLERS_IN_A_ROW = 5
"""Samplers that may die without having seen anything until no other one is tried."""


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
        self._sampler = sampler
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}  # pid of a group member that is not our child -> its pidfd
        self._may_start_more = True
        self._children_changed = False
        self._look_again_at = NEVER
        self._new_keeper = Replacement()
        self._new_sampler = Replacement(SAMPLERS_IN_A_ROW)
        self._leaving = False  # the last record is written
        self._selector.register(wakeup, selectors.EVENT_READ, self._on_wakeup)
        self._connect_keeper()
        self._connect_sampler()

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
        self._start_some()
        self._replace_helpers_if_due()
        self._flush()

    def _end_escaped(self, end: float) -> None:
        """What left its job's group gets the grace of leftovers, less where the end or the user is in a hurry (P5)."""
        ending, left = self._supervision.ending, max(0.0, end - self._kernel.monotonic())
        grace = 0.0 if ending is not None and ending.hurried else min(LEFTOVER_GRACE, left / 4)
        signum = signal.Signals[self._supervision.state.workflow.execution.termination_signal]
        if count := end_escaped(self._kernel, signum, grace, self._wait):
            noun = "process" if count == 1 else "processes"
            self._warn("escaped", f"{count} {noun} had left the group of their job and were ended")
            self._obey()

    def _wait(self, until: float) -> list[int]:
        """One round of a run without jobs, until something happened; returns the signals that were received."""
        deadline = min(until, self._look_again_at, self._new_keeper.due)
        timeout = 0.0 if self._children_changed else self._until(deadline)
        signals = [signum for key, mask in self._selector.select(timeout) for signum in key.data(mask)]
        self._supervision.at(self._kernel.monotonic(), self._kernel.wall())
        self._sweep_if_due()
        self._obey()
        self._replace_helpers_if_due()
        self._flush()
        return signals

    def fds(self) -> list[int]:
        """Descriptors that a newly forked helper must close."""
        links = [self._keeper.channel] + ([self._sampler.channel] if self._sampler else [])
        own = [link.fileno() for link in links if not link.closed]
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
        self._flush()

    def close(self) -> None:
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._selector.close()
        if self._sampler is not None:
            self._sampler.channel.close()

    # -- what wakes us --------------------------------------------------------------------------------------

    def _timeout(self) -> float | None:
        if self._may_start_more:
            return 0.0
        due = min(self._new_keeper.due, self._new_sampler.due)
        deadline = min(self._supervision.next_deadline, self._look_again_at, due)
        return None if deadline == NEVER else self._until(deadline)

    def _until(self, deadline: float) -> float:
        """Seconds to wait, possibly only a part of the way: whoever waits looks at the clock again."""
        return min(LONGEST_WAIT, max(0.0, deadline - self._kernel.monotonic()))

    def _on_wakeup(self, mask: int) -> Iterable[int]:
        raised = self._wakeup.take()
        if signal.SIGCHLD in raised:
            self._children_changed = True
        if set(raised) - {signal.SIGCHLD}:
            self._keeper.look_for_requests()  # a termination signal as well: it may be meant as a cancel
        return [signum for signum in raised if signum not in (signal.SIGCHLD, NUDGE)]

    def _on_keeper(self, mask: int) -> Iterable[int]:
        if mask & selectors.EVENT_READ:
            self._hear_keeper()
            if self._keeper.channel.closed:
                self._disconnect(self._keeper.channel)
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
                case b"C":
                    self._supervision.on_cancel(messages.body(line))
                case b"O":
                    self._supervision.on_owner_changed(messages.body(line))
                case b"W":
                    warning = messages.body(line)
                    self._warn(warning["code"], warning["message"])
        if self._keeper.confirmed > before:
            self._new_keeper.worked()

    def _on_sampler(self, mask: int) -> Iterable[int]:
        assert self._sampler is not None
        for job_id, memory, cpu, at_limit in self._sampler.receive():
            self._new_sampler.worked()
            self._supervision.on_sample(job_id, memory, cpu, at_limit)
        if self._sampler.channel.closed:
            self._disconnect(self._sampler.channel)
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
                supervision.on_leader_exited(pgid, exit_, len(sweep.members[pgid]))
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
        for pid, exit_ in sweep.helpers:
            if pid == self._keeper.pid:
                self._hear_keeper()
                self._disconnect(self._keeper.channel)
                self._keeper.died()
                if not self._keeper.gone:
                    self._expect_new_keeper(f"the keeper died ({exit_}); starting another one")
            elif self._sampler is not None and pid == self._sampler.pid:
                self._disconnect(self._sampler.channel)
                self._sampler.died()
                if not self._leaving:
                    self._expect_new_sampler(f"the sampler died ({exit_})")

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

    def _perform(self, job_id: JobId, action: a.SignalGroup | a.SignalLeader | a.Reap | a.Verify) -> None:
        match action:
            case a.SignalGroup(pgid=pgid, signum=signum):
                self._kernel.signal_group(pgid, signum)
            case a.SignalLeader(pid=pid, signum=signum):
                self._kernel.signal_process(pid, signum)
            case a.Reap(pid=pid):
                usage = self._kernel.collect(pid)
                if self._sampler is not None:
                    self._sampler.forget(job_id)
                self._supervision.on_reaped(job_id, usage)
            case a.Verify(outcome=outcome):
                job = self._supervision.state.job(job_id)
                self._keeper.inspect(job, self._supervision.state, asked=outcome.why is not None)

    def _start_some(self) -> None:
        self._may_start_more = False
        for _ in range(STARTS_PER_TURN):
            if not self._supervision.start_next():
                return
            self._obey()
            # At once, not at the end of the turn: if we are killed, the keeper ends only what it has heard of (P10).
            self._flush()
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
            if self._sampler is not None:
                self._sampler.watch(job, pid)

    # -- helpers --------------------------------------------------------------------------------------------

    def _connect_keeper(self) -> None:
        self._selector.register(self._keeper.channel, selectors.EVENT_READ, self._on_keeper)

    def _connect_sampler(self) -> None:
        if self._sampler is not None:
            self._selector.register(self._sampler.channel, selectors.EVENT_READ, self._on_sampler)

    def _disconnect(self, channel: Channel) -> None:
        if channel in self._selector.get_map():
            self._selector.unregister(channel)

    def _expect_new_keeper(self, why: str) -> None:
        """The first one comes at once; keepers that die without having confirmed anything come slower and slower."""
        self._new_keeper.wanted(self._kernel.monotonic())
        self._warn("keeper_died", why)

    def _expect_new_sampler(self, why: str) -> None:
        if self._new_sampler.wanted(self._kernel.monotonic()):
            self._warn("sampler_died", f"{why}; starting another one")
        else:
            self._sampler = None
            self._warn(
                "sampler_died", f"{why}, as {SAMPLERS_IN_A_ROW} did before: memory limits are not enforced"
            )

    def _warn(self, code: str, message: str) -> None:
        """Once the run's last record is written, only people can be told."""
        if self._leaving:
            self._keeper.say(f"warning: {message}")
        else:
            self._supervision.warn(code, message)

    def _replace_helpers_if_due(self) -> None:
        """What a keeper had not confirmed is given to the new one with the fork; open questions are asked again.

        Only at the end of a turn, when every order was carried out: a record that is folded into the state but not
        yet handed over would be folded by the new keeper a second time.
        Test: test_faults.py::test_p9_keepers_are_killed_one_after_another.
        """
        if self._new_keeper.take(self._kernel.monotonic()):
            try:
                self._keeper.restart(self.fds(), self._supervision.state)
                self._connect_keeper()
            except OSError as error:  # the machine is full
                self._expect_new_keeper(f"no new keeper can be started: {error.strerror}; trying again")
        if self._sampler is not None and self._new_sampler.take(self._kernel.monotonic()):
            try:
                self._sampler.restart(self.fds())
                self._connect_sampler()
            except OSError as error:
                self._expect_new_sampler(f"no new sampler can be started: {error.strerror}")
        self._obey()

    def _flush(self) -> None:
        links = [self._keeper.channel] + ([self._sampler.channel] if self._sampler else [])
        for channel, callback in zip(links, (self._on_keeper, self._on_sampler), strict=False):
            more = channel.flush()
            if channel.closed:
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
            if self._selector.get_key(channel).events != wanted:
                self._selector.modify(channel, wanted, callback)
