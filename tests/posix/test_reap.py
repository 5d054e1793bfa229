"""The reaper where /proc moves, or cannot be looked at (P4, P11); the contract suite has the rest."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.fake_kernel import FakeKernel, ignore
from support.labs import RealLab
from torc_supervise.exitstatus import Exited
from torc_supervise.posix import descriptors, procfs, reap
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.escaped import end_escaped
from torc_supervise.posix.kernel import RealKernel
from torc_supervise.posix.reap import NotNowError, Reaper, Sweep

pytestmark = pytest.mark.process


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RealLab]:
    made = RealLab(tmp_path)
    yield made
    made.close()


def reaper_of(lab: RealLab) -> Reaper:
    assert isinstance(lab.kernel, RealKernel)
    return lab.kernel.reaper


def die_after_the_list_was_read(lab: RealLab, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reaper = reaper_of(lab)
    real = reaper._own_children
    alive = [pid]

    def listed_too_early() -> list[int]:
        listed = real()
        if alive:
            lab.exit(alive.pop())
        return listed

    monkeypatch.setattr(reaper, "_own_children", listed_too_early)


def test_p4_children_of_an_orphan_that_dies_while_we_look_are_seen(
    lab: RealLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of the group of a dead leader; its parent, which left that group, dies after the list was read."""
    leader = lab.start()
    parent = lab.fork(leader)
    member = lab.fork(parent)
    lab.setsid(parent)
    lab.exit(leader)
    die_after_the_list_was_read(lab, parent, monkeypatch)
    assert lab.kernel.sweep() == Sweep(exited=[(leader, Exited(0))], members={leader: [member]})
    lab.exit(member)
    assert lab.kernel.sweep() == Sweep(members={leader: []})
    lab.kernel.collect(leader)


def test_p5_a_daemons_child_has_not_vanished_when_the_daemon_dies_while_we_look(
    lab: RealLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = lab.start()
    daemon = lab.fork(leader)
    lab.setsid(daemon)
    child = lab.fork(daemon)
    lab.exit(leader)
    lab.kernel.sweep()
    lab.kernel.collect(leader)
    die_after_the_list_was_read(lab, daemon, monkeypatch)
    assert lab.kernel.escaped() == [child]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("what", ["children", "stat"])
def test_p11_a_look_that_a_full_machine_refuses_finds_neither_nothing_nor_an_error(
    lab: RealLab, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    leader = lab.start()
    member = lab.fork(leader)
    lab.exit(leader, 3)

    def refuse(pid: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(procfs, what, refuse)
        for look in (lab.kernel.sweep, lab.kernel.sweep, lab.kernel.look_again, lab.kernel.escaped):
            with pytest.raises(NotNowError):
                look()
    assert lab.kernel.sweep() == Sweep(exited=[(leader, Exited(3))], members={leader: [member]})
    lab.exit(member)
    lab.kernel.sweep()
    lab.kernel.collect(leader)


def test_p11_the_last_descriptors_are_not_spent_on_watching(lab: RealLab) -> None:
    leader = lab.start()
    probe = os.dup(0)  # the number that the next descriptor gets
    os.close(probe)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + descriptors.SPARE, hard))
        assert lab.kernel.watch(leader) is None
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + descriptors.SPARE + 1, hard))
        watch = lab.kernel.watch(leader)
        assert watch == probe
        os.close(watch)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_children_that_were_there_before_are_neither_reaped_nor_escaped(lab: RealLab) -> None:
    """They are somebody else's: a batch script's, or those of the program that calls us."""
    before = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ends = subprocess.Popen(["sleep", "1000"])
    try:
        kernel = RealKernel()
        theirs = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        job = kernel.spawn(("/bin/true",), {"TORC_RUN_NONCE": "n", "TORC_JOB_ID": "1"})
        waiting.wait_for_end(job)
        kernel.sweep()
        kernel.collect(job)
        ours = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={"TORC_RUN_NONCE": "n"})
        ends.kill()
        waiting.wait_for_end(ends.pid)
        assert kernel.sweep() == Sweep()
        assert kernel.escaped() == [ours.pid], "control: what came from a job, and not what anybody started"
        assert ends.wait() == -9, "its status was left for us"
    finally:
        for child in (before, ends, theirs, ours):
            child.kill()
            child.wait()


def test_what_a_leader_without_a_mark_has_started_is_its_own_business(lab: RealLab) -> None:
    """It stands for a job step: srun, in a session of its own, kills its task when it gets SIGTERM."""
    leader = lab.start(marked=False)
    srun = lab.fork(leader)
    lab.setsid(srun)
    lab.note(srun, signal.SIGTERM)
    lab.kernel.signal_outside({leader: signal.SIGTERM})
    lab.note(srun, signal.SIGUSR1)  # it answers: what had come before that would have been noted
    assert not [line for line in lab._said.drain() if "got" in line]
    lab.exit(leader)
    assert lab.kernel.sweep().escaped == {leader: [srun]}, (
        "when its leader is gone it is an orphan like others"
    )
    lab.expect_signal(srun, signal.SIGTERM)
    lab.kernel.signal_outside({leader: signal.SIGKILL})
    lab.until_dead(srun)
    lab.kernel.sweep()
    lab.kernel.collect(leader)


def test_an_interrupt_ends_the_grace_of_what_has_escaped() -> None:
    fake = FakeKernel()
    leader = fake.spawn(("/bin/daemon",), {})
    away = fake.fork(leader)
    fake.setsid(away)
    fake.handle(away, signal.SIGTERM, ignore)
    fake.exit(leader)
    fake.sweep()
    fake.collect(leader)
    waits: list[float] = []

    def interrupted(until: float) -> list[int]:
        waits.append(until)
        return [signal.SIGINT]

    assert end_escaped(fake, signal.SIGTERM, 100.0, interrupted) == 1
    assert away not in fake.processes
    assert waits[0] == fake.monotonic() + 100.0, "no time has passed"


class _Inhabited(JobCgroup):
    """A cgroup in which there is always somebody."""

    def processes(self) -> list[int]:
        return [os.getppid()]


@pytest.mark.parametrize("adopts", [True, False])
def test_p4_where_orphans_do_not_come_to_us_the_jobs_cgroup_says_who_is_left(
    lab: RealLab, monkeypatch: pytest.MonkeyPatch, adopts: bool
) -> None:
    monkeypatch.setattr(reap, "is_subreaper", lambda: adopts)
    reaper = Reaper()
    leader = lab.start()
    reaper.add(leader, cgroup=_Inhabited("1", "/nowhere/1", "/1"))
    lab.exit(leader)
    found = reaper.sweep()
    assert found.members == {leader: [] if adopts else [os.getppid()]}
    assert found.strangers == set(found.members[leader])
    lab.kernel.collect(leader)
