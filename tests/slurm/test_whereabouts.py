"""What status, cancel and sync-status make of squeue's answers, recorded on a real cluster (Slurm 22.05)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from torc_supervise.operations import whereabouts as module
from torc_supervise.operations.whereabouts import Whereabouts, ask, merged, supervisor_is_gone, wanted
from torc_supervise.slurm import jobs, site
from torc_supervise.slurm.commands import SlurmUnreachable
from torc_supervise.store.lock import Owner

PENDING = "12|PENDING|Resources|1769866200|1769862600|1769860800||normal|(null)|torc"
WAITS = "13|PENDING|Dependency|N/A|N/A|1769860801||normal|afterany:11(unfulfilled)|torc"
RUNNING = "11|RUNNING|None|1769866200|1769862600|1769860800|node[1-2]|normal|(null)|torc"
OVER = "11|NODE_FAIL|NodeDown|1769866200|1769862600|1769860800|node1|normal|(null)|torc"
COMPLETING = "11|COMPLETING|None|1769866200|1769862600|1769860800|node1|normal|(null)|torc"
REQUEUED = "11|PENDING|BeginTime|N/A|1769866200|1769860800||normal|(null)|torc"
OWNER = Owner("node1", 1, 1, None, "2026", "run", slurm_job_id="11", slurm_node="node1")
STARTED = "2026-01-31T12:30:01.000000Z"  # a second after RUNNING's start


def row(slurm_job_id: str, state: str, **fields: Any) -> dict[str, Any]:
    return {"slurm_job_id": slurm_job_id, "state": state, "since": STARTED, "cluster": None, **fields}


def head(*rows: dict[str, Any], alive: bool = False, state: str = "running", **fields: Any) -> dict[str, Any]:
    supervisor = {"host": "node1", "alive": alive, "slurm_job_id": "11", "started": STARTED}
    return {"allocations": list(rows), "supervisor": supervisor, "state": state, **fields}


def seen(*lines: str, asked: tuple[str, ...] = ("11", "12", "13")) -> Whereabouts:
    return Whereabouts(asked, {job.job_id: job for job in map(jobs.parse, lines)})


def test_what_is_asked_for() -> None:
    done, open_ = row("10", "ended"), row("11", "running")
    assert wanted(head(done, open_, row("12", "queued"))) == ["11", "12"]
    assert wanted(head(done, state="completed")) == []
    assert wanted(head(row("9", "ended"), done, state="terminated")) == ["10"], "it may have been requeued"
    assert wanted(head(row("10", "canceled"), state="terminated")) == []
    assert wanted(head(alive=True)) == ["11"], "salloc, or a batch script of one's own"
    assert wanted({"state": "ready"}) == [], "a snapshot of an older version"


def test_nothing_is_asked_where_nothing_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "look", lambda *_, **__: pytest.fail("asked"))
    assert ask(head(state="completed")) == Whereabouts(())


def test_queued_jobs_have_a_reason_and_perhaps_an_expected_start() -> None:
    rows = merged(head(row("12", "queued"), row("13", "queued")), seen(PENDING, WAITS), OWNER)["allocations"]
    assert [x["state"] for x in rows] == ["queued", "queued"]
    assert (rows[0]["reason"], rows[0]["expected_start"]) == ("Resources", "2026-01-31T12:30:00.000000Z")
    assert rows[0]["submit_time"] == "2026-01-31T12:00:00.000000Z"
    assert (rows[0]["end_time"], "start_time" in rows[0]) == (None, False), "an end that nobody knows yet"
    assert (rows[1]["dependency"], rows[1]["expected_start"]) == ("afterany:11(unfulfilled)", None)


def test_a_running_job_has_nodes_and_an_end() -> None:
    found = merged(head(row("11", "running"), alive=True), seen(RUNNING), OWNER)
    assert (found["state"], found["slurm"]) == ("running", "answered")
    assert (found["supervisor"]["alive"], found["supervisor"]["slurm_state"]) == (True, "RUNNING")
    shown = found["allocations"][0]
    assert (shown["nodes"], shown["end_time"]) == ("node[1-2]", "2026-01-31T13:30:00.000000Z")


@pytest.mark.parametrize(
    ("lines", "state", "slurm_state"),
    [((), "gone", "gone"), ((OVER,), "ended", "NODE_FAIL"), ((REQUEUED,), "queued", "PENDING")],
    ids=["gone", "over", "requeued"],
)
def test_a_supervisor_whose_allocation_is_over_is_gone(
    lines: tuple[str, ...], state: str, slurm_state: str
) -> None:
    found = merged(head(row("11", "running"), alive=True), seen(*lines), OWNER)
    assert (found["state"], found["supervisor"]["alive"]) == ("terminated", False)
    assert (found["supervisor"]["slurm_state"], found["allocations"][0]["state"]) == (slurm_state, state)
    inherited = replace(OWNER, slurm_node=None)
    assert not supervisor_is_gone(head(alive=True), seen(*lines), inherited), "it only has Slurm's variables"
    assert supervisor_is_gone(head(alive=True), seen(*lines), None), "no lock any more"


def test_a_supervisor_whose_allocation_is_being_ended_is_not_gone() -> None:
    found = merged(head(row("11", "running"), alive=True), seen(COMPLETING), OWNER)
    assert (found["state"], found["allocations"][0]["state"]) == ("running", "ending")


def test_a_job_that_started_again_has_another_supervisor_than_the_one_on_record() -> None:
    """Control: by the clocks of two hosts it may start a little after its own supervisor."""
    later = RUNNING.replace("1769862600", str(1769862601 + 31))
    assert supervisor_is_gone(head(alive=True), seen(later), OWNER)
    assert not supervisor_is_gone(head(alive=True), seen(RUNNING.replace("1769862600", "1769862610")), OWNER)


def test_slurm_that_does_not_answer_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object, **__: object) -> Any:
        raise SlurmUnreachable("squeue did not answer within 3 s\nand more")

    monkeypatch.setattr(module, "look", look)
    before = head(row("11", "running"), alive=True)
    nobody = ask(before)
    assert (nobody.known, nobody.is_gone("11")) == (False, False)
    found = merged(before, nobody, OWNER)
    assert found["slurm"] == "squeue did not answer within 3 s"
    assert {**found, "slurm": None} == {**before, "slurm": None}, "as of the last record"


def test_a_job_of_another_cluster_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: of this cluster it is."""
    monkeypatch.setattr(module, "look", lambda *_, **__: {})
    monkeypatch.setattr(module, "cluster_name", lambda _: "here")
    elsewhere = ask(head(row("11", "running", cluster="there"), alive=True))
    assert (elsewhere.known, elsewhere.problem) == (False, "its allocation is on cluster there, this is here")
    assert ask(head(row("11", "running", cluster="here"), alive=True)).is_gone("11")


def test_the_cluster_is_known_inside_of_jobs_and_asked_for_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        site, "run", lambda argv, **_: "AuthType = auth/munge\nClusterName             = torc\n"
    )
    assert site.cluster_name({}) == "torc"
    assert site.cluster_name({"SLURM_CLUSTER_NAME": "other"}) == "other"


@pytest.mark.parametrize(
    ("states", "answers"),
    [
        ("idle", True),
        ("mixed\nmixed", True),
        ("down*", False),
        ("down", False),
        ("idle*", False),
        ("", False),
    ],
)
def test_whether_a_node_answers(monkeypatch: pytest.MonkeyPatch, states: str, answers: bool) -> None:
    monkeypatch.setattr(site, "run", lambda argv, **_: f"{states}\n")
    assert site.node_answers("node1") is answers
