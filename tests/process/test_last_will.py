"""The last will, on a state made by hand: when SIGKILL is due, and what must never be signalled (P6, P10, P11)."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support import waiting
from support.supervised import job, workflow_of
from torc_supervise.helpers import kin
from torc_supervise.helpers.last_will import LastWill, kill_due, walls_since
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.step import LEFTOVER_GRACE
from torc_supervise.posix import clock, marks, procfs
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.workflow.model import ExecutionConfig, Job

STARTED = r.JobStarted(1, 1, 1, 77, 77)
EXECUTION = ExecutionConfig(sigterm_lead_seconds=30.0)
WALL = WallTime(end=1000.0, headroom=60.0)
SAVES, PLAIN = job("saves", "true"), job("plain", "true", saves=False)


def asked(why: str | None, at: float | None = 100.0, last: str = "SIGTERM") -> LiveAttempt:
    return LiveAttempt(STARTED, "t", 50.0, at, why, last if why else None)


@pytest.mark.parametrize(
    ("what", "live", "wall", "due"),
    [
        (SAVES, asked(None, None), WallTime(), 150.0),
        (SAVES, asked("signal"), WallTime(), 130.0),
        (SAVES, asked("signal"), WALL, 940.0),
        (SAVES, asked("wall_time"), WALL, 940.0),
        (SAVES, asked("runtime_limit"), WALL, 130.0),
        (SAVES, asked("runtime_limit", 930.0), WALL, 940.0),
        (SAVES, asked("leftover"), WALL, 100.0 + LEFTOVER_GRACE),
        (PLAIN, asked("leftover"), WALL, 100.0 + LEFTOVER_GRACE),
        (SAVES, asked("memory_limit", last="SIGKILL"), WALL, 120.0),
        (PLAIN, asked(None, None), WALL, 120.0),
    ],
)
def test_p6_a_grace_is_counted_from_the_first_signal(
    what: Job, live: LiveAttempt, wall: WallTime, due: float
) -> None:
    assert kill_due(what, live, EXECUTION, wall, 120.0) == due


NEARER = WallTime(end=500.0, headroom=60.0)


@pytest.mark.parametrize(
    ("asked_at", "due"),
    [
        (None, 960.0),  # not asked yet: only the present end counts
        (100.0, 440.0),  # asked while the end was nearer: no later than it was to be then
        (250.0, 940.0),  # asked after it had moved
    ],
)
def test_p6_an_end_that_has_moved_lengthens_no_grace_that_had_begun(
    asked_at: float | None, due: float
) -> None:
    live = asked("signal" if asked_at is not None else None, asked_at)
    walls = walls_since(asked_at, WALL, [(50.0, WallTime()), (200.0, NEARER)])
    assert min(kill_due(SAVES, live, EXECUTION, wall, 930.0) for wall in walls) == due


def state_with(
    pgid: int,
    nonce: str | None = None,
    *,
    ago: float = 0.0,
    what: Job | None = None,
    mode: str | None = None,
    nodes: tuple[str, ...] | None = None,
    first: int = 0,
) -> WorkflowState:
    """A job was started.

    Args:
        ago: seconds before what is there of it.
        first: pid of what is there of it, if that is not its leader.

    Race: a test that is held up after the start of a process must not make that older than its job.
    """
    pid = first or pgid
    began = waiting.started_at(pid) - ago if pid > 1 else clock.monotonic()
    state = WorkflowState(1, workflow_of(what or job("j", "true")))
    state.apply("t", began, r.RunStarted(1, "here", 1, nonce=nonce, mode=mode))
    state.apply("t", began, r.JobStarted(1, 1, 1, pgid, pgid, nodes=nodes))
    return state


def execute(state: WorkflowState) -> list[r.Record]:
    written: list[r.Record] = []
    LastWill(state, WallTime(), written.append, lambda text: None).execute()
    return written


@pytest.mark.parametrize("pgid", [0, 1, -1, -77])
def test_a_start_that_failed_has_no_group_that_could_be_signalled(pgid: int) -> None:
    """The parent was killed between ``job_started`` with pgid 0 and its ``job_ended``."""
    written = execute(state_with(pgid))
    assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["lost"]


@pytest.mark.process
def test_p3_a_group_that_is_older_than_the_job_is_a_strangers() -> None:
    """The number of a job that has ended, in use again; or a journal that somebody has edited."""
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        state = WorkflowState(1, workflow_of(job("j", "true")))
        later = clock.monotonic() + 100.0
        state.apply("t", later, r.RunStarted(1, "here", 1))
        state.apply("t", later, r.JobStarted(1, 1, 1, stranger.pid, stranger.pid))
        written = execute(state)
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["lost"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.process
@pytest.mark.parametrize("refusals", [range(1, 3), range(2, 4)], ids=["first look", "later looks"])
def test_p11_nobody_is_gone_because_nobody_can_look(monkeypatch: pytest.MonkeyPatch, refusals: range) -> None:
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    looks = 0
    everything = procfs.everything

    def refuse() -> object:
        nonlocal looks
        looks += 1
        if looks in refusals:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return everything()

    monkeypatch.setattr(procfs, "everything", refuse)
    try:
        written = execute(state_with(child.pid))
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["in_grace"]
        waiting.wait_for_end(child.pid)
        assert child.wait() == -signal.SIGTERM
        assert looks >= refusals[-1]
    finally:
        child.kill()
        child.wait()


@pytest.mark.process
def test_p10_a_job_is_asked_while_it_cannot_be_told_whose_another_process_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine some process is just calling exec, or waits for a disk, at every look."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    monkeypatch.setattr(kin, "UNREADABLE_AFTER", float("inf"))
    monkeypatch.setattr(marks, "environment_block", lambda about: None if child.poll() is None else b"")
    try:
        state = state_with(child.pid, nonce="ours")
        written = execute(state)
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["in_grace"]
        assert child.wait() == -signal.SIGTERM
        assert other.poll() is None
    finally:
        for each in (child, other):
            each.kill()
            each.wait()


@pytest.mark.process
def test_p10_what_a_leader_has_left_behind_is_asked_though_the_signal_is_for_the_leader() -> None:
    """``signal_scope: leader``, and nobody is there any more who would pass it on."""
    leader = subprocess.Popen(
        ["bash", "-c", "sleep 1000 & echo $!"], start_new_session=True, stdout=subprocess.PIPE
    )
    assert leader.stdout is not None
    left = int(leader.stdout.readline())
    with leader, os.fdopen(os.pidfd_open(left)) as watched:
        leader.stdout.close()
        leader.wait()
        written = execute(state_with(leader.pid, first=left, what=job("j", "true", signal_scope="leader")))
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["in_grace"]
        assert select.select([watched], [], [], 0.0)[0], "it has ended"


@pytest.mark.process
@pytest.mark.usefixtures("patient_reads")
def test_p10_a_job_that_is_found_at_the_second_look_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leader is gone; what is left of its group can only be told by its mark, which cannot be read at first."""
    code = (
        "import signal; signal.pthread_sigmask(0, {15}); print('ready', flush=True); "
        "signal.sigwait({15}); print('asked')"
    )
    mark = {"TORC_RUN_NONCE": "ours", "TORC_JOB_ID": "1", "TORC_ATTEMPT_ID": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        start_new_session=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **mark},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        state = state_with(child.pid, nonce="ours", ago=10 * kin.SLACK)
        read, look, looks = marks.environment_block, procfs.everything, 0

        def everything() -> Iterator[ProcessStat]:
            nonlocal looks
            looks += 1
            return look()

        def not_yet(about: ProcessStat) -> bytes | None:
            return None if about.pid == child.pid and looks == 1 else read(about)

        monkeypatch.setattr(procfs, "everything", everything)
        monkeypatch.setattr(marks, "environment_block", not_yet)
        written = execute(state)
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["in_grace"]
        assert child.stdout.read() == b"asked\n"


OBEYS = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO, signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGIO})  # KILL_STEP
print("asked", flush=True)
os._exit(3)
"""


@pytest.mark.process
def test_p10_the_leader_of_a_job_step_is_told_to_kill_and_not_killed() -> None:
    """Killed it could not see to what runs on other nodes."""
    child = subprocess.Popen([sys.executable, "-c", OBEYS], start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"ready\n"
        plain = job("j", "true", saves=False)
        written = execute(state_with(child.pid, what=plain, mode="slurm", nodes=("n1",)))
        assert [record.ended for record in written if isinstance(record, r.JobEnded)] == ["killed"]
        assert child.stdout.readline() == b"asked\n"
        assert child.wait(waiting.LIMIT) == 3
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
