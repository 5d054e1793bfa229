"""What the loop relies on, passed by the real kernel and by the fake one of the simulator.

Each test ends with ``nothing_else``: after what was expected, a sweep finds nothing more.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.labs import FakeLab, Lab, RealLab
from torc_supervise.exitstatus import Exited, Signaled
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.reap import Sweep
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError


@pytest.fixture(
    params=[pytest.param(RealLab, marks=pytest.mark.process, id="real"), pytest.param(FakeLab, id="fake")]
)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made: Lab = request.param(tmp_path)
    yield made
    made.close()


def nothing_else(lab: Lab) -> None:
    assert lab.kernel.sweep() == Sweep()


def test_spawn_makes_a_leader_of_its_own_session_and_group(lab: Lab) -> None:
    pid = lab.start()
    assert lab.group(pid) == (pid, pid)
    nothing_else(lab)


def test_a_child_is_a_member_of_its_leaders_group(lab: Lab) -> None:
    leader = lab.start()
    assert lab.group(lab.fork(lab.fork(leader))) == (leader, leader)
    nothing_else(lab)


def test_a_signal_to_a_group_reaches_children_and_grandchildren(lab: Lab) -> None:
    leader = lab.start()
    child = lab.fork(leader)
    tree = [leader, child, lab.fork(child)]
    for pid in tree:
        lab.note(pid, signal.SIGUSR1)
    assert lab.kernel.signal_group(leader, signal.SIGUSR1) is Delivery.SENT
    for pid in tree:
        lab.expect_signal(pid, signal.SIGUSR1)
    nothing_else(lab)


def test_a_signal_to_a_leader_reaches_nobody_else(lab: Lab) -> None:
    leader = lab.start()
    child = lab.fork(leader)
    for pid in (leader, child):
        lab.note(pid, signal.SIGUSR1)
    assert lab.kernel.signal_process(leader, signal.SIGUSR1) is Delivery.SENT
    lab.expect_signal(leader, signal.SIGUSR1)
    nothing_else(lab)


def test_a_signal_to_one_group_reaches_no_other(lab: Lab) -> None:
    first, second = lab.start(), lab.start()
    lab.note(second, signal.SIGTERM)
    lab.kernel.signal_group(first, signal.SIGTERM)
    lab.until_dead(first)
    assert lab.kernel.sweep() == Sweep(exited=[(first, Signaled(signal.SIGTERM))], members={first: []})
    lab.kernel.collect(first)
    nothing_else(lab)


def test_an_exit_code_is_reported_once(lab: Lab) -> None:
    pid = lab.start()
    lab.exit(pid, 7)
    assert lab.kernel.sweep() == Sweep(exited=[(pid, Exited(7))], members={pid: []})
    assert lab.kernel.sweep() == Sweep(members={pid: []}), (
        "not collected, so its group may still have members"
    )
    assert lab.kernel.collect(pid) is not None
    nothing_else(lab)


def test_sweep_is_empty_when_nothing_died(lab: Lab) -> None:
    for _ in range(3):
        lab.fork(lab.start())
    nothing_else(lab)


def test_members_that_outlive_their_leader_are_reported(lab: Lab) -> None:
    leader = lab.start()
    child = lab.fork(leader)
    grandchild = lab.fork(child)
    lab.exit(leader)
    found = lab.kernel.sweep()
    assert found.exited == [(leader, Exited(0))]
    assert sorted(found.members[leader]) == sorted([child, grandchild])
    lab.exit(grandchild)
    assert lab.kernel.sweep().members == {leader: [child]}
    lab.exit(child)
    assert lab.kernel.sweep() == Sweep(members={leader: []})
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_p3_the_zombie_leader_pins_the_group_id_until_it_is_collected(lab: Lab) -> None:
    leader = lab.start()
    lab.exit(leader)
    assert lab.kernel.sweep().exited == [(leader, Exited(0))]
    assert lab.state(leader) == "zombie"
    others = [lab.start() for _ in range(5)]
    assert leader not in others
    assert lab.kernel.signal_group(leader, signal.SIGKILL) is Delivery.SENT, (
        "to the zombie, and to nobody else"
    )
    assert [lab.state(pid) for pid in others] == ["alive"] * 5
    assert lab.kernel.collect(leader) is not None
    assert lab.state(leader) is None
    nothing_else(lab)


def test_p3_a_group_whose_leader_is_dead_can_still_be_signalled(lab: Lab) -> None:
    leader = lab.start()
    member = lab.fork(leader)
    lab.exit(leader)
    lab.kernel.sweep()
    assert lab.kernel.signal_group(leader, signal.SIGTERM) is Delivery.SENT
    lab.until_dead(member)
    assert lab.kernel.sweep() == Sweep(members={leader: []})
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_a_signal_to_a_group_that_is_gone_is_reported_and_not_raised(lab: Lab) -> None:
    leader = lab.start()
    lab.exit(leader)
    lab.kernel.sweep()
    lab.kernel.collect(leader)
    assert lab.kernel.signal_group(leader, signal.SIGTERM) is Delivery.NO_SUCH_GROUP
    assert lab.kernel.signal_process(leader, signal.SIGTERM) is Delivery.NO_SUCH_GROUP
    nothing_else(lab)


@pytest.mark.parametrize("number", [1, 0, -1, -7])
def test_numbers_that_mean_somebody_else_are_refused(lab: Lab, number: int) -> None:
    with pytest.raises(ValueError, match="not a job's"):
        lab.kernel.signal_group(number, 0)
    with pytest.raises(ValueError, match="not a job's"):
        lab.kernel.signal_process(number, 0)


def test_collect_of_what_is_not_there_is_none(lab: Lab) -> None:
    leader = lab.start()
    lab.exit(leader)
    lab.kernel.sweep()
    assert lab.kernel.collect(leader) is not None
    assert lab.kernel.collect(leader) is None
    nothing_else(lab)


def test_fifty_deaths_at_once_are_all_reported(lab: Lab) -> None:
    """SIGCHLD coalesces; a sweep trusts no count."""
    pids = [lab.start() for _ in range(50)]
    for pid in pids:
        lab.kernel.signal_group(pid, signal.SIGKILL)
    for pid in pids:
        lab.until_dead(pid)
    found = lab.kernel.sweep()
    assert sorted(found.exited) == sorted((pid, Signaled(signal.SIGKILL)) for pid in pids)
    assert found.members == {pid: [] for pid in pids}
    for pid in pids:
        lab.kernel.collect(pid)
    nothing_else(lab)


def test_an_orphan_is_adopted_and_reaped(lab: Lab) -> None:
    """A double fork within the group, while the leader lives: nobody else would ever take its zombie away."""
    leader = lab.start()
    child = lab.fork(leader)
    orphan = lab.fork(child)
    lab.exit(child)
    lab.reap(leader, child)
    lab.exit(orphan)
    assert lab.state(orphan) == "zombie"
    assert lab.kernel.sweep() == Sweep()
    assert lab.state(orphan) is None
    nothing_else(lab)


def test_a_member_that_is_not_our_child_is_a_stranger(lab: Lab) -> None:
    """Its parent left the group by setsid; the kernel tells us nothing when the member ends."""
    leader = lab.start()
    parent = lab.fork(leader)
    member = lab.fork(parent)
    lab.setsid(parent)
    lab.exit(leader)
    found = lab.kernel.sweep()
    assert found.members == {leader: [parent, member]}
    assert found.escaped == {leader: [parent]}
    assert found.strangers == {member}
    watch = lab.kernel.watch(member)
    assert watch is not None
    lab.exit(member)
    lab.expect_end(watch)
    assert lab.kernel.look_again() == Sweep(members={leader: [parent]}, escaped={leader: [parent]})
    lab.reap(parent, member)
    assert lab.kernel.watch(member) is None
    lab.exit(parent)
    lab.kernel.sweep()
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_p5_a_process_that_left_the_group_is_its_jobs_all_the_same(lab: Lab) -> None:
    leader, other = lab.start(), lab.start()
    away = lab.fork(leader)
    lab.setsid(away)
    lab.exit(leader)
    lab.exit(other)
    found = lab.kernel.sweep()
    assert sorted(found.exited) == sorted([(leader, Exited(0)), (other, Exited(0))])
    assert found.members == {leader: [away], other: []}
    assert found.escaped == {leader: [away]}
    assert lab.kernel.escaped() == [], "it belongs to a job that is not over"
    lab.kernel.signal_outside({leader: signal.SIGTERM})
    lab.until_dead(away)
    assert lab.kernel.sweep() == Sweep(members={leader: [], other: []})
    assert lab.state(away) is None
    for pid in (leader, other):
        lab.kernel.collect(pid)
    nothing_else(lab)


def test_p5_who_left_the_group_gets_its_signal_while_the_leader_lives(lab: Lab) -> None:
    """A child in a session of its own, its child, a double-forked daemon; and nobody of another job."""
    leader, other = lab.start(), lab.start()
    away = lab.fork(leader)
    lab.setsid(away)
    below = lab.fork(away)
    middle = lab.fork(leader)
    lab.setsid(middle)
    daemon = lab.fork(middle)
    lab.setsid(daemon)
    lab.exit(middle)
    lab.reap(leader, middle)
    elsewhere = lab.fork(other)
    lab.setsid(elsewhere)
    for pid in (leader, away, below, daemon, other, elsewhere):
        lab.note(pid, signal.SIGUSR1)
    lab.kernel.signal_outside({leader: signal.SIGUSR1})
    lab.kernel.signal_outside({leader: signal.SIGUSR1})
    for pid in (away, below, daemon):
        lab.expect_signal(pid, signal.SIGUSR1)
    nothing_else(lab)


def test_p5_who_is_found_after_the_signal_gets_it_too(lab: Lab) -> None:
    leader = lab.start()
    lab.kernel.signal_outside({leader: signal.SIGUSR1})
    away = lab.fork(leader)
    lab.setsid(away)
    lab.note(away, signal.SIGUSR1)
    lab.exit(leader)
    assert lab.kernel.sweep().escaped == {leader: [away]}
    lab.expect_signal(away, signal.SIGUSR1)
    lab.kernel.signal_outside({leader: signal.SIGKILL})
    lab.until_dead(away)
    assert lab.kernel.sweep() == Sweep(members={leader: []})
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_p14_a_stopped_process_outside_of_the_group_acts_on_its_signal(lab: Lab) -> None:
    leader = lab.start()
    away = lab.fork(leader)
    lab.setsid(away)
    lab.note(away, signal.SIGTERM)
    lab.kernel.signal_process(away, signal.SIGSTOP)
    lab.kernel.signal_outside({leader: signal.SIGTERM})
    lab.expect_signal(away, signal.SIGTERM)
    nothing_else(lab)


def test_members_and_leaders_have_not_escaped(lab: Lab) -> None:
    leader, other = lab.start(), lab.start()
    lab.fork(other)
    orphan = lab.fork(lab.fork(leader))
    assert lab.kernel.escaped() == []
    lab.exit(leader)
    found = lab.kernel.sweep()
    assert orphan in found.members[leader]
    assert lab.kernel.escaped() == []


def test_who_ignores_a_signal_lives_on_and_sigkill_ends_it(lab: Lab) -> None:
    leader = lab.start()
    child = lab.fork(leader)
    lab.ignore(child, signal.SIGTERM)
    lab.kernel.signal_group(leader, signal.SIGTERM)
    lab.until_dead(leader)
    found = lab.kernel.sweep()
    assert found == Sweep(exited=[(leader, Signaled(signal.SIGTERM))], members={leader: [child]})
    lab.kernel.signal_group(leader, signal.SIGKILL)
    lab.until_dead(child)
    assert lab.kernel.sweep() == Sweep(members={leader: []})
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_p14_a_stopped_process_acts_on_its_signal_when_it_is_continued(lab: Lab) -> None:
    leader = lab.start()
    lab.note(leader, signal.SIGTERM)
    lab.kernel.signal_group(leader, signal.SIGSTOP)
    lab.kernel.signal_group(leader, signal.SIGTERM)
    lab.kernel.signal_group(leader, signal.SIGCONT)
    lab.expect_signal(leader, signal.SIGTERM)
    nothing_else(lab)


def test_sigkill_ends_a_stopped_process(lab: Lab) -> None:
    leader = lab.start()
    lab.kernel.signal_group(leader, signal.SIGSTOP)
    lab.kernel.signal_group(leader, signal.SIGKILL)
    lab.until_dead(leader)
    assert lab.kernel.sweep().exited == [(leader, Signaled(signal.SIGKILL))]
    lab.kernel.collect(leader)
    nothing_else(lab)


def test_a_leader_that_dies_before_its_first_sweep_is_not_lost(lab: Lab) -> None:
    first = lab.start()
    lab.exit(first, 1)
    second = lab.start()
    lab.exit(second, 2)
    assert sorted(lab.kernel.sweep().exited) == sorted([(first, Exited(1)), (second, Exited(2))])
    lab.kernel.collect(second)
    assert lab.kernel.sweep() == Sweep(members={first: []})
    lab.kernel.collect(first)
    nothing_else(lab)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_p11_a_full_machine_refuses_and_nothing_is_started(
    lab: Lab, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_next_spawn(lab, number, monkeypatch)
    with pytest.raises(SpawnRefusedError) as raised:
        lab.kernel.spawn(("/bin/true",), {})
    assert raised.value.errno == number
    monkeypatch.undo()
    nothing_else(lab)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.E2BIG])
def test_p11_a_program_that_cannot_be_started_is_the_jobs_fault(
    lab: Lab, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_next_spawn(lab, number, monkeypatch)
    with pytest.raises(SpawnFailedError) as raised:
        lab.kernel.spawn(("/bin/true",), {})
    assert raised.value.errno == number
    monkeypatch.undo()
    nothing_else(lab)


def fail_next_spawn(lab: Lab, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(lab, FakeLab):
        lab.fake.spawn_errors.append(number)
        return

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_spawn", refuse)


def test_monotonic_never_goes_back_and_wall_is_utc(lab: Lab) -> None:
    first = lab.kernel.monotonic()
    assert lab.kernel.monotonic() >= first
    assert lab.kernel.wall().endswith("Z")
