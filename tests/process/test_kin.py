"""Kin, on processes made here: what proves that a group is a job's, and what does not (P3)."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from support import waiting
from torc_supervise.helpers.kin import SLACK, Kin
from torc_supervise.machine import records as r
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.posix import clock, marks, procfs

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("patient_reads")]

NONCE = f"ours-{os.getpid()}"  # another worker's processes are nobody's here
OURS = {"TORC_RUN_NONCE": NONCE, "TORC_JOB_ID": "1", "TORC_ATTEMPT_ID": "1"}
LATER = 1000.0  # seconds between the start of the job and that of the process
AT_ONCE = SLACK / 4

MEMBER = "/bin/bash -c 'echo $$; exec sleep 1000' &"


class Group:
    """A session with its group, as a job's shell makes it."""

    def __init__(self, command: str, carried: Mapping[str, str]) -> None:
        self.leader = subprocess.Popen(
            ["/bin/bash", "-c", command],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], **carried},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.leader.stdout is not None
        self.said = self.leader.stdout.readline().strip()

    def end(self) -> None:
        self.leader.kill()
        self.leader.wait()
        waiting.kill_all(map(int, self.said.split()))
        assert self.leader.stdout is not None
        self.leader.stdout.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def of_leader(stack: ExitStack, carried: Mapping[str, str]) -> Group:
    group = Group("echo; exec sleep 1000", carried)
    stack.callback(group.end)
    return group


def of_member(stack: ExitStack, carried: Mapping[str, str]) -> Group:
    """The leader is gone, and reaped."""
    text = " ".join(f"{name}={shlex.quote(value)}" for name, value in carried.items())
    group = Group(f"env -i {text} {MEMBER}", {})
    stack.callback(group.end)
    group.leader.wait(waiting.LIMIT)
    return group


def members(kin: Kin, group: Group, age: float) -> list[int]:
    """Of a job that had this number, and was started ``age`` seconds before the first of the group that is there."""
    pgid = group.leader.pid
    first = int(group.said) if group.said else pgid
    live = LiveAttempt(r.JobStarted(1, 1, 1, pgid, pgid), "t", waiting.started_at(first) - age)
    found: list[int] = []

    def look() -> bool:
        """Not sure yet where any process of this machine is just stuck in the kernel."""
        members, sure = kin.members({1: live})
        found[:] = [about.pid for about in members[1]]
        return sure

    waiting.wait_until(look, "never sure")
    return found


ANOTHERS_RUN = OURS | {"TORC_RUN_NONCE": "another's"}
ANOTHER_ATTEMPT = OURS | {"TORC_ATTEMPT_ID": "2"}


@pytest.mark.parametrize("make", [of_leader, of_member])
@pytest.mark.parametrize("groups_only", [False, True])
@pytest.mark.parametrize(
    ("carried", "age", "is_its"),
    [
        (OURS, AT_ONCE, True),
        (OURS, LATER, True),
        ({}, AT_ONCE, True),
        ({}, LATER, False),
        (ANOTHERS_RUN, LATER, False),
        (ANOTHERS_RUN, AT_ONCE, False),
        (ANOTHER_ATTEMPT, LATER, False),
    ],
    ids=["ours", "ours, later", "wiped", "stranger", "another run", "another run at once", "another attempt"],
)
def test_p3_a_group_that_has_a_jobs_number_by_chance_is_let_alone(
    stack: ExitStack, make: object, groups_only: bool, carried: Mapping[str, str], age: float, is_its: bool
) -> None:
    assert callable(make)
    group = make(stack, carried)
    kin = Kin(NONCE, clock.boot_offset(), groups_only=groups_only)
    there = [int(group.said)] if group.said else [group.leader.pid]
    assert members(kin, group, age) == (there if is_its else [])


def test_p3_where_no_nonce_is_known_a_group_is_the_jobs_that_began_with_it(stack: ExitStack) -> None:
    group, kin = of_leader(stack, ANOTHERS_RUN), Kin(None, clock.boot_offset())
    assert members(kin, group, AT_ONCE) == [group.leader.pid]
    assert members(Kin(None, clock.boot_offset()), group, LATER) == []


def test_p10_what_a_leader_leaves_in_its_group_stays_the_jobs(stack: ExitStack) -> None:
    """It was seen while the leader lived, which carried the mark."""
    group = Group(f"env -i {MEMBER} exec sleep 1000", OURS)
    stack.callback(group.end)
    kin, member = Kin(NONCE, clock.boot_offset()), int(group.said)
    assert sorted(members(kin, group, LATER)) == sorted([group.leader.pid, member])
    group.leader.kill()
    group.leader.wait(waiting.LIMIT)
    assert members(kin, group, LATER) == [member]


def test_an_exec_that_is_over_before_it_is_noticed_hides_no_mark(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read between the new memory map and its environment, and looked at again when both were there."""
    group = of_leader(stack, OURS)
    about = procfs.stat(group.leader.pid)
    assert about is not None
    about = replace(about, state="S")  # it may wait for its program's file just now
    blocks = [b"", b"TORC_RUN_NONCE=ours"]
    monkeypatch.setattr(marks, "_read_with_patience", lambda pid: blocks.pop(0))
    assert marks.environment_block(about) == b"TORC_RUN_NONCE=ours"
