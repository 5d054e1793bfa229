"""Who may be taken for dead: what /proc says on the owner's host, and Slurm elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from torc_supervise.operations import liveness
from torc_supervise.operations.liveness import HELD, Life, judge, wait_for_release
from torc_supervise.posix.identity import own_identity
from torc_supervise.slurm import jobs, site
from torc_supervise.slurm.commands import SlurmUnreachable
from torc_supervise.store.lock import Lock, Owner, acquire

OWNER = Owner("node1", 11, 111, "boot", "2026", "run", slurm_job_id="11", nonce="abc", slurm_node="n1")
LINE = "11|{}|None|1769866200|1769862600|1769860800|node1|normal|(null)|torc"


class Slurm:
    """Answers for squeue and sinfo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: str | None = "RUNNING"
        self.node_answers = True
        self.cluster = "torc"
        self.asked = 0
        monkeypatch.setattr(jobs, "look", self._look)
        monkeypatch.setattr(site, "node_answers", lambda node, timeout: self.node_answers)
        monkeypatch.setattr(site, "cluster_name", lambda environ: self.cluster)

    def _look(self, job_ids: list[str], timeout: float) -> dict[str, Any]:
        self.asked += 1
        if self.state == "silent":
            raise SlurmUnreachable("squeue did not answer within 10 s")
        return {} if self.state is None else {"11": jobs.parse(LINE.format(self.state))}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(monkeypatch)


@pytest.mark.parametrize(
    ("state", "node_answers", "life"),
    [
        ("RUNNING", False, Life.ALIVE),
        ("SUSPENDED", False, Life.ALIVE),
        ("silent", True, Life.ALIVE),
        ("COMPLETING", True, Life.ENDING),
        (None, False, Life.DEAD),
        ("TIMEOUT", False, Life.DEAD),
        ("CANCELLED", False, Life.DEAD),
        ("NODE_FAIL", True, Life.DEAD),
        ("NODE_FAIL", False, Life.LOST),
        ("PENDING", True, Life.DEAD),
        ("PENDING", False, Life.LOST),
    ],
)
def test_an_owner_in_an_allocation_elsewhere(
    slurm: Slurm, state: str | None, node_answers: bool, life: Life
) -> None:
    slurm.state, slurm.node_answers = state, node_answers
    assert judge(OWNER, {}).life is life
    assert slurm.asked == 1


def test_an_owner_on_another_host_without_an_allocation_is_believed_to_live(slurm: Slurm) -> None:
    slurm.state = None
    assert judge(replace(OWNER, slurm_job_id=None), {}).life is Life.ALIVE
    assert judge(replace(OWNER, slurm_node=None), {}).life is Life.ALIVE, "it only has Slurm's variables"
    assert slurm.asked == 0


def test_an_owner_on_this_host_is_looked_up_here(slurm: Slurm) -> None:
    me = own_identity()
    here = replace(OWNER, host=me.host, pid=me.pid, start_ticks=me.start_ticks, boot_id=me.boot_id)
    assert judge(here, {}).life is Life.ALIVE
    assert judge(replace(here, start_ticks=1), {}).life is Life.DEAD
    assert slurm.asked == 0


def test_who_finds_a_keeper_alone_is_told_what_to_do(slurm: Slurm) -> None:
    me = own_identity()
    gone = replace(OWNER, host=me.host, pid=me.pid, start_ticks=1, boot_id=me.boot_id)
    verdict = judge(replace(gone, keeper_pid=me.pid, keeper_ticks=me.start_ticks), {})
    assert verdict.life is Life.ALIVE
    assert "whose keeper still" in verdict.why
    assert f"'kill -9 {me.pid}'" in (verdict.hint or "")
    assert judge(gone, {}).life is Life.DEAD


def test_an_owner_in_another_pid_namespace_of_this_host_is_elsewhere(slurm: Slurm) -> None:
    me = own_identity()
    gone = replace(OWNER, host=me.host, pid=me.pid, start_ticks=1, boot_id=me.boot_id)
    contained = replace(gone, pid_namespace=1)
    slurm.state = "TIMEOUT"
    assert judge(contained, {}).life is Life.DEAD, "Slurm knows"
    verdict = judge(replace(contained, slurm_job_id=None), {})
    assert verdict.life is Life.ALIVE
    assert verdict.why == "which is in another PID namespace of this host (a container?)"
    assert judge(replace(gone, pid_namespace=me.pid_namespace), {}).life is Life.DEAD
    assert slurm.asked == 1


def test_a_job_of_another_cluster_is_not_taken_for_gone(slurm: Slurm) -> None:
    """Control: of this one it is."""
    slurm.state = None
    assert judge(replace(OWNER, slurm_cluster="other"), {}).life is Life.ALIVE
    assert judge(replace(OWNER, slurm_cluster="torc"), {}).life is Life.DEAD


def test_the_first_start_of_a_requeued_allocation_is_not_the_second(slurm: Slurm) -> None:
    requeued = {"SLURM_JOB_ID": "11", "SLURM_RESTART_COUNT": "1"}
    assert judge(OWNER, requeued).life is Life.DEAD
    slurm.node_answers = False
    assert judge(OWNER, requeued).life is Life.LOST
    assert judge(replace(OWNER, slurm_restarts=1), requeued).life is Life.ALIVE, "another node of it"
    assert judge(OWNER, {"SLURM_JOB_ID": "11"}).life is Life.ALIVE
    assert slurm.asked == 0, "it is running: we are in it"


# -- waiting --------------------------------------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    monkeypatch.setattr(liveness, "RELEASE_LIMIT", 0.05)
    monkeypatch.setattr(liveness, "LOOK_EVERY", 0.01)
    return acquire(str(tmp_path / "lock"), OWNER, lambda owner: True)[0]


def path_of(lock: Lock) -> str:
    return lock._path


def test_one_that_slurm_has_lost_sight_of_is_given_up_in_the_end(slurm: Slurm, lock: Lock) -> None:
    slurm.state, slurm.node_answers = "NODE_FAIL", False
    said: list[str] = []
    assert wait_for_release(path_of(lock), said.append) == lock.owner.nonce
    assert len(said) == 1
    assert "whose allocation is over (NODE_FAIL), and whose node does not answer: waiting up to" in said[0]


def test_one_that_is_being_ended_is_waited_for_and_never_given_up(slurm: Slurm, lock: Lock) -> None:
    slurm.state = "COMPLETING"
    assert wait_for_release(path_of(lock), lambda text: None) is None
    assert judge(lock.owner, {}).life in HELD


def test_a_release_ends_the_wait(slurm: Slurm, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "RELEASE_LIMIT", 3600.0)
    slurm.state, slurm.node_answers = "NODE_FAIL", False
    assert wait_for_release(path_of(lock), lambda text: lock.release()) is None


def test_what_slurm_says_later_ends_the_wait(
    slurm: Slurm, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "RELEASE_LIMIT", 3600.0)
    monkeypatch.setattr(liveness, "ASK_EVERY", 0.0)
    slurm.state = "COMPLETING"

    def then(text: str) -> None:
        slurm.state = None

    assert wait_for_release(path_of(lock), then) is None
    assert judge(lock.owner, {}).life is Life.DEAD


@pytest.mark.parametrize("state", ["RUNNING", None, "silent"])
def test_nobody_waits_where_it_is_clear(slurm: Slurm, lock: Lock, state: str | None) -> None:
    slurm.state = state
    assert wait_for_release(path_of(lock), lambda text: pytest.fail("waits")) is None
    os.unlink(path_of(lock))
    assert wait_for_release(path_of(lock), lambda text: pytest.fail("waits")) is None
