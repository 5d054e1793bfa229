"""Interleavings of the loop that a whole supervisor shows once in a thousand runs, brought about on purpose."""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import waiting
from support.fake_kernel import SUPERVISOR, FakeKernel, Process, ignore
from support.supervised import job, workflow_of
from torc_supervise.environment import RunEnvironment
from torc_supervise.helpers import chores, speaker
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.link import KeeperLink, SamplerLink
from torc_supervise.helpers.staff import SAMPLERS_IN_A_ROW
from torc_supervise.launch import Launcher
from torc_supervise.loop import TERM_FOLLOWS_WITHIN, Loop
from torc_supervise.machine import records as r
from torc_supervise.machine.backoff import FIRST_PAUSE
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.step import LEFTOVER_GRACE, UNKILLABLE_AFTER
from torc_supervise.machine.supervision import Supervision
from torc_supervise.operations.opened import create_workflow
from torc_supervise.operations.reinitialize import first_record
from torc_supervise.posix import clock
from torc_supervise.posix.kernel import Kernel, RealKernel
from torc_supervise.posix.reap import NotNowError, Sweep
from torc_supervise.posix.wakeup import Wakeup
from torc_supervise.scheduler import Capacity, Scheduler
from torc_supervise.workflow.model import Workflow

pytestmark = pytest.mark.process


class Bare:
    """A loop in this process, with a real keeper."""

    def __init__(
        self,
        directory: Path,
        workflow: Workflow,
        kernel: Kernel,
        *,
        sampler: bool = False,
        errands: Sequence[Errand] = (),
        in_allocation: bool = False,
    ) -> None:
        self.opened = create_workflow(
            str(directory / "out"), lambda new: first_record(workflow, new), "test", lambda text: None
        )
        self.kernel = kernel
        self.reaper = RealKernel().reaper if not isinstance(kernel, RealKernel) else kernel.reaper
        state = self.opened.state
        setup = KeeperSetup(self.opened.files, state, self.opened.lock, WallTime())
        self.keeper = KeeperLink(setup, self.opened.seq, self.reaper.add_helper)
        close = [self.keeper.channel.fileno()]
        self.sampler = SamplerLink(1000.0, True, close, self.reaper.add_helper) if sampler else None
        self.supervision = Supervision(state, Scheduler(Capacity(8, 1 << 30, 0)), errands=errands)
        environment = RunEnvironment(
            dict(os.environ), state.workflow, 1, self.opened.files.output, str(directory)
        )
        self.wakeup = Wakeup(continued=in_allocation).__enter__()
        launcher = Launcher("/bin/bash", self.opened.files, environment)
        self.loop = Loop(
            self.supervision,
            kernel,
            self.wakeup,
            launcher,
            self.keeper,
            self.sampler,
            signals_first=in_allocation,
        )
        self.supervision.at(kernel.monotonic(), kernel.wall())
        self.supervision.begin(r.RunStarted(state.run_id, "here", os.getpid()))

    def see(self, events: Callable[[float | None], list[Any]]) -> Any:
        """Have the next ``select`` of the loop return what this says."""
        real = self.loop._selector.select
        self.loop._selector.select = events  # type: ignore[method-assign]
        return real

    def turn_blind(self) -> None:
        """A turn whose ``select`` returned before anything was ready, though a child has died meanwhile."""
        real = self.see(lambda timeout: [])
        self.loop._children_changed = True
        self.loop.turn()
        self.loop._selector.select = real  # type: ignore[method-assign]

    def leave(self) -> bool:
        self.keeper.leave()
        self.loop.write_now()
        return self.loop.wait_for_keeper(clock.monotonic() + waiting.LIMIT)

    def close(self) -> None:
        for link in (self.keeper, self.sampler):
            if link is not None and link.pid:
                waiting.kill_all([link.pid])
                try:
                    os.waitpid(link.pid, 0)
                except ChildProcessError:
                    pass  # it was collected
            if link is not None:
                link.channel.close()
        self.loop.close()
        self.wakeup.__exit__(None, None, None)
        self.opened.lock.release()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Callable[..., Bare]]:
    made: list[Bare] = []

    def make(workflow: Workflow, kernel: Kernel | None = None, **options: Any) -> Bare:
        made.append(Bare(tmp_path, workflow, kernel or RealKernel(), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def kill(pid: int) -> None:
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    waiting.wait_for_end(pid)


def test_a_keeper_that_is_swept_before_its_channel_was_read(bare: Callable[..., Bare]) -> None:
    """The socket of the dead keeper must leave the selector: the next one's gets its number."""
    it = bare(workflow_of(job("never", "true")))
    first = it.keeper.pid
    for _ in range(3):
        kill(it.keeper.pid)
        it.turn_blind()
        while not it.keeper.pid:  # the second and the third come after a pause
            it.loop.turn()
    assert it.keeper.pid != first
    while not it.supervision.done:
        it.loop.turn()
    assert it.leave()


def test_a_sampler_that_is_swept_before_its_channel_was_read(bare: Callable[..., Bare]) -> None:
    it = bare(workflow_of(job("short", "true")), sampler=True)
    assert it.sampler is not None
    kill(it.sampler.pid)
    it.turn_blind()
    while not it.supervision.done:
        it.loop.turn()
    assert it.leave()


def test_what_a_keeper_said_before_it_died_is_heard(bare: Callable[..., Bare], tmp_path: Path) -> None:
    """Its answer about the job's files is in the socket already; nobody would ask again."""
    it = bare(
        workflow_of(
            job("makes", f"touch {tmp_path}/made", output_files=("made",)), files={"made": f"{tmp_path}/made"}
        )
    )
    answered = False
    while not answered:
        # Everything but the keeper's channel is heard.
        poll = select.poll()
        poll.register(it.keeper.channel, select.POLLIN)
        real = it.loop._selector.select

        def deaf(timeout: float | None, real: Callable[..., Any] = real) -> list[Any]:
            ready: list[Any] = real(0.0)
            return [(key, mask) for key, mask in ready if key.fileobj is not it.keeper.channel]

        it.see(deaf)
        it.loop.turn()
        it.loop._selector.select = real  # type: ignore[method-assign]
        if poll.poll(0):
            heard = it.keeper.channel._socket.recv(1 << 20, socket.MSG_PEEK)
            answered = heard.startswith(b"V") or b"\nV" in heard
    kill(it.keeper.pid)
    it.turn_blind()
    while not it.supervision.done:
        it.loop.turn()
    assert it.leave()


def test_p11_no_process_for_a_new_keeper_is_tried_again(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = bare(workflow_of(job("short", "true")))
    kill(it.keeper.pid)

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse)
        for _ in range(5):
            it.turn_blind()
        assert it.keeper.pid == 0
    while not it.supervision.done:
        it.loop.turn()
    assert it.leave()
    lines = Path(it.opened.files.journal).read_text().splitlines()
    assert sum('"job_ended"' in line for line in lines) == 1


@pytest.mark.parametrize("who", ["a new keeper", "our own voice"])
def test_p11_no_process_for_a_keeper_and_no_thread_to_say_so(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], who: str
) -> None:
    """What was to be said is kept until somebody can say it."""
    monkeypatch.setattr("torc_supervise.helpers.keeper.LAST_WORDS_LIMIT", waiting.LIMIT)
    it = bare(workflow_of(job("short", "true")))
    kill(it.keeper.pid)

    def refuse(*arguments: Any) -> int:
        raise RuntimeError("can't start new thread")

    def refuse_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse_fork)
        patched.setattr(speaker.threading.Thread, "start", refuse)
        it.turn_blind()
        while not it.loop.staff.alone:
            it.loop.turn()
    assert not it.keeper.voice.raised
    if who == "our own voice":
        it.keeper.say_ourselves("the last word")
    while not it.supervision.done:
        it.loop.turn()
    assert it.leave()
    said = ""

    def is_said(text: str) -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return text in said

    # By a thread that may be late: the voice is not waited for when a keeper has come.
    waiting.wait_until(lambda: is_said("the keeper died"), "it is lost")
    if who == "our own voice":
        waiting.wait_until(lambda: is_said("the last word"), "it is lost")
        assert said.index("the keeper died") < said.index("the last word")


def play(it: Bare, fake: FakeKernel) -> None:
    """Have the loop live by the fake kernel's clock and signals from now on."""

    def select_virtually(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if fake.take_child_signal():
            it.loop._children_changed = True
            return []
        assert timeout is not None, "it would wait for ever"
        fake.advance_to(fake.monotonic() + timeout)
        return []

    it.see(select_virtually)


def test_p12_an_unkillable_job_is_recorded_and_the_loop_ends(bare: Callable[..., Bare]) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(job("stuck", "true", saves=False)), fake)
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    fake.processes[leader].uninterruptible = True
    it.supervision.on_signal(signal.SIGTERM)
    it.loop.run()
    assert fake.sent == [(fake.sent[0][0], -leader, signal.SIGKILL)]
    assert fake.collected == []
    result = it.opened.state.results[1][1]
    assert (result.status, result.ended, result.return_code) == ("terminated", "unkillable", None)


class FullKernel(FakeKernel):
    """Looks at /proc are refused for a while."""

    refusals = 3

    def sweep(self) -> Sweep:
        self._refuse()
        return super().sweep()

    def escaped(self) -> list[int]:
        self._refuse()
        return super().escaped()

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NotNowError


def test_p11_where_there_is_no_room_for_one_job_the_rest_of_its_burst_is_not_tried(
    bare: Callable[..., Bare],
) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(*(job(f"job{n}", "true") for n in range(5))), fake)
    play(it, fake)
    fake.spawn_errors = [None, errno.EAGAIN, None]
    it.loop.turn()
    assert (len(fake.processes), fake.spawn_errors) == (1, [None])
    began = fake.monotonic()
    while len(fake.processes) < 5:
        it.loop.turn()
    assert fake.monotonic() - began == pytest.approx(FIRST_PAUSE), "it was one refusal, not four"
    assert [warning.code for _, warning in it.opened.state.warnings] == ["machine_full"]


def test_p11_an_exit_that_cannot_be_looked_at_now_is_seen_soon(bare: Callable[..., Bare]) -> None:
    """And at the end, what has escaped."""
    fake = FullKernel()
    it = bare(workflow_of(job("short", "true")), fake)
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    away = fake.fork(leader)
    fake.setsid(away)
    fake.exit(leader)
    begun = fake.monotonic()
    while not it.supervision.done:
        it.loop.turn()
    assert fake.collected == [leader]
    fake.refusals = 3
    it.loop.run()
    assert away not in fake.processes
    assert fake.monotonic() - begun < 1.0
    assert fake.refusals == 0


def test_p5_a_deaf_process_outside_of_its_jobs_group_is_asked_once_and_killed_after_a_short_grace(
    bare: Callable[..., Bare],
) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(job("short", "true"), termination_signal="SIGUSR1"), fake)
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    away = fake.fork(leader)
    fake.setsid(away)
    fake.handle(away, signal.SIGUSR1, ignore)
    fake.exit(leader)
    while not it.supervision.done:
        it.loop.turn()
    assert [(pid, signum) for _, pid, signum in fake.sent if pid > 0] == [
        (away, signal.SIGUSR1),
        (away, signal.SIGCONT),
        (away, signal.SIGKILL),
    ]
    asked, _, killed = (at for at, pid, _ in fake.sent if pid > 0)
    assert killed - asked == LEFTOVER_GRACE
    result = it.opened.state.results[1][1]
    assert (result.status, result.ended, result.return_code) == ("completed", "exited", 0)


@pytest.mark.parametrize("end", [NEVER, 1002.0])
def test_p5_a_deaf_process_of_no_job_is_asked_once_and_killed_when_the_run_ends(
    bare: Callable[..., Bare], end: float
) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(job("short", "true"), termination_signal="SIGUSR1"), fake)
    play(it, fake)
    it.loop.turn()
    fake.exit(next(iter(fake.processes)))
    away = 200
    fake.processes[away] = Process(away, SUPERVISOR, away, away, fake.monotonic(), leader=99)
    fake.handle(away, signal.SIGUSR1, ignore)
    if end < NEVER:
        it.supervision.move_end(WallTime(end))
    it.loop.run()
    assert [(pid, signum) for _, pid, signum in fake.sent] == [
        (away, signal.SIGUSR1),
        (away, signal.SIGCONT),
        (away, signal.SIGKILL),
        (away, signal.SIGCONT),
    ]
    assert fake.sent[2][0] - fake.sent[0][0] == (LEFTOVER_GRACE if end == NEVER else 0.5)


def test_p12_an_escaped_process_that_cannot_be_killed_does_not_keep_the_loop(
    bare: Callable[..., Bare],
) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(job("short", "true")), fake)
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    away = fake.fork(leader)
    fake.setsid(away)
    fake.processes[away].uninterruptible = True
    fake.exit(leader)
    begun = fake.monotonic()
    it.loop.run()
    assert fake.monotonic() - begun == pytest.approx(LEFTOVER_GRACE + UNKILLABLE_AFTER)


def test_samplers_that_die_at_once_are_given_up(bare: Callable[..., Bare]) -> None:
    it = bare(workflow_of(job("waits", "exec sleep 1000", saves=False)), sampler=True)
    assert it.sampler is not None
    it.loop.turn()
    for _ in range(SAMPLERS_IN_A_ROW + 1):
        while not it.sampler.pid:
            it.loop.turn()
        kill(pid := it.sampler.pid)
        while it.sampler.pid == pid:
            it.loop.turn()
    it.supervision.on_signal(signal.SIGTERM)
    it.loop.run()
    assert it.sampler.pid == 0
    assert it.leave()
    codes = [warned.message for _, warned in it.opened.state.warnings if warned.code == "sampler_died"]
    assert len(codes) == SAMPLERS_IN_A_ROW + 1
    assert "not enforced" in codes[-1]


class OddKernel(FakeKernel):
    """A member ends, and is reaped by its own parent, in the moment between the sweep and the watching."""

    def watch(self, pid: int) -> int | None:
        self.exit(pid)
        self.reap(pid)
        return super().watch(pid)


def test_a_member_that_ends_before_it_can_be_watched_is_noticed(bare: Callable[..., Bare]) -> None:
    fake = OddKernel()
    it = bare(workflow_of(job("odd", "true")), fake)
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    parent = fake.fork(leader)
    fake.fork(parent)
    fake.setsid(parent)
    fake.exit(leader)
    begun = fake.monotonic()
    while not it.supervision.done:
        it.loop.turn()
    assert fake.collected == [leader]
    assert fake.monotonic() - begun < 1.0, "it was not waited for until its leftovers were killed"
    assert signal.SIGKILL not in [signum for _, _, signum in fake.sent]


class Asks(Errand):
    """One chore when nothing runs any more."""

    def __init__(self, *, once: bool) -> None:
        self.once, self.answers = once, list[Answer]()

    def on_idle(self, desk: Desk) -> None:
        self.busy = True
        desk.do(self, "test", {"x": 2}, once=self.once)

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        self.busy = False
        self.answers.append(answer)


def test_a_chore_is_done_beside_the_run_and_answered(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chores.KINDS, "test", lambda body: {"twice": body["x"] * 2})
    asks = Asks(once=True)
    it = bare(workflow_of(job("a", "true")), errands=[asks])
    while not it.supervision.done:
        it.loop.turn()
    assert asks.answers == [{"ok": True, "twice": 4}]
    assert it.leave()


@pytest.mark.parametrize("once", [True, False])
def test_p9_a_chore_that_a_keeper_dies_over_is_done_again_unless_once_is_enough(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, once: bool
) -> None:
    """The first keeper says on a pipe that it has begun, and never ends; the second one answers at once."""
    begun, says_begun = os.pipe()

    def do(body: dict[str, Any]) -> dict[str, Any]:
        marker = tmp_path / "begun"
        if marker.exists():
            return {"by": "another"}
        marker.touch()
        os.write(says_begun, b"x")
        threading.Event().wait()
        return {}

    monkeypatch.setitem(chores.KINDS, "test", do)
    asks = Asks(once=once)
    it = bare(workflow_of(job("a", "true")), errands=[asks])
    while not select.select([begun], [], [], 0)[0]:
        it.loop.turn() if not asks.busy else select.select([begun], [], [], waiting.LIMIT)
    kill(it.keeper.pid)
    while not it.supervision.done:
        it.loop.turn()
    assert asks.answers == ([{"ok": False, "lost": True}] if once else [{"ok": True, "by": "another"}])
    assert it.leave()
    os.close(begun)
    os.close(says_begun)


# -- in an allocation Slurm signals jobs, too --------------------------------------------------------------------


def exits_after(it: Bare, fake: FakeKernel, *signals: int) -> r.JobEnded:
    """Its one job exits 0 after these signals to the supervisor; its result."""
    play(it, fake)
    it.loop.turn()
    leader = next(iter(fake.processes))
    for signum in signals:
        os.kill(os.getpid(), signum)
    fake.exit(leader)
    it.loop.turn()
    if signals == (signal.SIGCONT,):
        assert it.supervision.phase(1) is not None, "it waits for the signal that comes next"
    while not it.supervision.done:
        it.loop.turn()
    _, result = it.supervision.state.results[1]
    return result


def test_in_an_allocation_a_signal_counts_before_an_exit_that_is_seen_with_it(
    bare: Callable[..., Bare],
) -> None:
    fake = FakeKernel()
    result = exits_after(bare(workflow_of(job("a", "true")), fake, in_allocation=True), fake, signal.SIGTERM)
    assert (result.status, result.ended, result.return_code) == ("terminated", "in_grace", 0)


def test_control_elsewhere_an_exit_counts_before_a_signal_that_is_seen_with_it(
    bare: Callable[..., Bare],
) -> None:
    fake = FakeKernel()
    result = exits_after(bare(workflow_of(job("a", "true")), fake), fake, signal.SIGTERM)
    assert result.status == "completed"


def test_p7_a_start_that_was_hit_by_a_signal_to_our_group_was_asked_to_end(bare: Callable[..., Bare]) -> None:
    """Between fork and setsid it is in the supervisor's own group, and Ctrl-C goes to all of that."""
    fake = FakeKernel()
    it = bare(workflow_of(job("a", "true")), fake)
    play(it, fake)
    it.loop.turn()
    os.kill(os.getpid(), signal.SIGTERM)
    fake.signal_process(next(iter(fake.processes)), signal.SIGTERM)
    while not it.supervision.done:
        it.loop.turn()
    _, result = it.supervision.state.results[1]
    assert (result.status, result.signal) == ("terminated", "SIGTERM")


def test_control_a_job_that_dies_of_a_signal_by_itself_has_failed(bare: Callable[..., Bare]) -> None:
    fake = FakeKernel()
    it = bare(workflow_of(job("a", "true")), fake)
    play(it, fake)
    it.loop.turn()
    fake.signal_process(next(iter(fake.processes)), signal.SIGTERM)
    while not it.supervision.done:
        it.loop.turn()
    _, result = it.supervision.state.results[1]
    assert (result.status, result.signal) == ("failed", "SIGTERM")


def test_in_an_allocation_an_exit_waits_for_the_signal_that_it_stems_from(bare: Callable[..., Bare]) -> None:
    """Slurm continues all processes, then it signals them: the job dies of it before our own signal has come."""
    fake = FakeKernel()
    it = bare(workflow_of(job("a", "true")), fake, in_allocation=True)
    play(it, fake)
    it.loop.turn()
    os.kill(os.getpid(), signal.SIGCONT)
    fake.exit(next(iter(fake.processes)))
    it.loop.turn()
    assert it.supervision.state.results == {}
    os.kill(os.getpid(), signal.SIGTERM)
    while not it.supervision.done:
        it.loop.turn()
    _, result = it.supervision.state.results[1]
    assert (result.status, result.ended, result.return_code) == ("terminated", "in_grace", 0)


def test_control_a_signal_that_does_not_come_is_not_waited_for_long(bare: Callable[..., Bare]) -> None:
    """Somebody has resumed a suspended job."""
    fake = FakeKernel()
    it = bare(workflow_of(job("a", "true")), fake, in_allocation=True)
    began = fake.monotonic()
    assert exits_after(it, fake, signal.SIGCONT).status == "completed"
    assert fake.monotonic() - began == TERM_FOLLOWS_WITHIN
