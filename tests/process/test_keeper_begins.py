"""How a keeper begins: whose the workflow is by then, and a disk that hangs from its first look at it (P8, P9, P10)."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from support import waiting
from support.supervised import Bench, child, job, workflow_of
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.operations.opened import OpenWorkflow, create_workflow
from torc_supervise.operations.reinitialize import first_record
from torc_supervise.store import journal, lock
from torc_supervise.store.records import encode

pytestmark = pytest.mark.process


@pytest.fixture
def opened(tmp_path: Path) -> OpenWorkflow:
    workflow = workflow_of(job("never", "true"))
    return create_workflow(str(tmp_path), lambda new: first_record(workflow, new), "run", lambda text: None)


class Parent:
    """As much of a supervisor as a keeper needs."""

    def __init__(self, opened: OpenWorkflow) -> None:
        self._opened = opened
        setup = KeeperSetup(opened.files, opened.state, opened.lock, WallTime())
        self.link = KeeperLink(setup, opened.seq, lambda pid: None)

    def begin(self) -> None:
        """``run_started`` is sent."""
        self.link.write("t", 1.0, r.RunStarted(1, "here", os.getpid()))
        self.link.channel.flush()

    def hear(self, beginning: bytes) -> bytes:
        """A line with that beginning; what confirms is taken note of on the way."""
        poll = select.poll()
        poll.register(self.link.channel, select.POLLIN)
        while poll.poll(waiting.LIMIT * 1000):
            for line in self.link.receive():
                if line.startswith(beginning):
                    return line
            if self.link.confirmed > self._opened.seq and beginning == b"A":
                return b"A"
            assert not self.link.channel.closed, "the keeper has gone without a word"
        raise AssertionError(f"it never says {beginning!r}")

    def end(self) -> None:
        """Once is enough."""
        if self.link.channel.closed:
            return
        self.link.leave()
        self.link.channel.flush()
        self.link.close()
        os.waitpid(self.link.pid, 0)


@pytest.fixture
def parent(opened: OpenWorkflow, request: pytest.FixtureRequest) -> Iterator[Parent]:
    """Of a keeper that finds the lock, or the journal, as the parameter leaves them."""
    request.param(opened)
    made = Parent(opened)
    yield made
    made.end()


def nothing(opened: OpenWorkflow) -> None:
    return


def lock_removed(opened: OpenWorkflow) -> None:
    os.unlink(opened.files.lock)


def lock_taken_over(opened: OpenWorkflow) -> None:
    lock.acquire(opened.files.lock, replace(opened.lock.owner, host="elsewhere"), lambda owner: False)


def somebody_came_and_went(opened: OpenWorkflow) -> None:
    other = journal.Journal(opened.files.journal)
    other.append(encode(opened.seq + 1, "t", 0.0, r.Warned(1, "code", "by another")))
    other.close()
    lock_removed(opened)


@pytest.mark.parametrize("parent", [nothing, lock_removed], indirect=True)
def test_p9_a_lock_that_was_removed_by_hand_is_put_back(parent: Parent, opened: OpenWorkflow) -> None:
    parent.begin()
    parent.hear(b"A")
    owner = lock.read_owner(opened.files.lock)
    assert owner is not None
    assert owner.keeper_pid == parent.link.pid
    assert not parent.link.disowned


@pytest.mark.parametrize(
    ("parent", "owner"),
    [(lock_taken_over, b"on elsewhere"), (somebody_came_and_went, b"somebody who has written")],
    indirect=["parent"],
)
def test_p9_a_keeper_writes_nothing_where_somebody_took_over_before_it_began(
    parent: Parent, owner: bytes, opened: OpenWorkflow
) -> None:
    before = Path(opened.files.journal).read_bytes()
    parent.begin()
    assert owner in parent.hear(b"O")
    parent.end()
    assert Path(opened.files.journal).read_bytes() == before


def test_p10_a_keeper_that_began_on_a_hung_disk_ends_the_jobs_of_a_killed_parent(bench: Bench) -> None:
    supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")))
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not written")
    os.mkfifo(bench.directory / "hung_disk")
    first = supervisor.keeper()
    waiting.kill_all([first])
    waiting.wait_until(lambda: set(supervisor.helpers()) - {first}, "no new keeper")
    (second,) = set(supervisor.helpers()) - {first}
    waiting.kill_all([supervisor.pid])
    bench.said.expect(1, "saved")
    bench.held.wait()
    answers = os.open(bench.directory / "hung_disk", os.O_RDWR)
    waiting.wait_for_end(second)
    os.close(answers)
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"
    assert supervisor.journal().entries[-1]["event"] == "run_ended"
