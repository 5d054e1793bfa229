"""A batch job that Slurm starts again after its node died, and a cancel that nobody lived to take up.

Slurm is played by the environment: the same job, started once more.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec.structs import replace

from support import waiting
from support.cli import Cli, Done, only, statuses
from torc_supervise.operations.opened import open_workflow
from torc_supervise.store import layout, requests
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Owner, read_owner
from torc_supervise.store.requests import CancelRequest

ASKED = "2026-01-31T12:00:00.000000Z"
ALLOCATION = {"SLURM_JOB_ID": "17", "SLURM_JOB_END_TIME": "99999999999", "SLURM_RESTART_COUNT": "0"}
REQUEUED = ALLOCATION | {"SLURM_RESTART_COUNT": "1"}
WORKFLOW = """
name: w
jobs:
  - {name: first, command: 'echo ran >>first.txt'}
  - {name: second, command: 'echo ready; [ -e again ] || exec sleep 1000', depends_on: [first]}
"""


@pytest.fixture
def files(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> WorkflowFiles:
    """Workflow 1, whose supervisor and keeper were killed together in the middle of it: their lock is still there."""
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    cli.write("w.yaml", WORKFLOW)
    pipe = cli.stdout_pipe(2)
    started = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    waiting.wait_until(
        lambda: any(e["event"] == "job_started" and e["job_id"] == 2 for e in cli.events()), "none"
    )
    started.kill_together(waiting.children_of(started.process.pid))
    (cli.directory / "again").touch()
    return layout.find(str(cli.directory / "torc_output"), 1)


def owner_of(files: WorkflowFiles) -> Owner:
    owner = read_owner(files.lock)
    assert owner is not None
    return owner


def leave(files: WorkflowFiles, lock: str | None, slurm_job_id: str | None = None) -> None:
    requests.leave(files, CancelRequest(lock, slurm_job_id, ASKED, "login", ("18",)))


def starts(cli: Cli) -> list[tuple[int, int]]:
    return [(e["run_id"], e["job_id"]) for e in cli.events() if e["event"] == "job_started"]


def assert_canceled(cli: Cli, done: Done) -> None:
    assert done.code == 0, "the batch job has not failed"
    assert "asked for on login at 2026-01-31 12:00:00 UTC" in done.err
    assert "workflow 1 was canceled: nothing is to be run" in done.err
    assert starts(cli) == [(1, 1), (1, 2)]
    head = cli.run("status", "1", "-f", "json").json
    assert (head["state"], statuses(head)) == ("canceled", {"first": "completed", "second": "terminated"})
    ended: dict[str, Any] = only(e for e in cli.events() if e["event"] == "allocation_ended")
    assert (ended["slurm_job_id"], ended["how"]) == ("18", "canceled")


def test_a_cancel_that_the_dead_owner_was_asked_for_holds_for_who_takes_over(
    cli: Cli, files: WorkflowFiles
) -> None:
    leave(files, owner_of(files).nonce)
    assert_canceled(cli, cli.run("run", "1", env=REQUEUED))
    assert not os.path.exists(files.cancel_request)
    assert "was canceled: nothing" in cli.run("run", "1", env=REQUEUED | {"SLURM_RESTART_COUNT": "2"}).err


def test_a_cancel_that_the_allocation_was_asked_for_while_it_waited_holds(
    cli: Cli, files: WorkflowFiles
) -> None:
    """Slurm has lost sight of the node: the new supervisor waits, and is known to nobody but by its allocation."""
    leave(files, None, "17")
    assert_canceled(cli, cli.run("run", "1", env=REQUEUED))


def test_a_cancel_that_came_when_the_last_supervisor_was_leaving_holds(
    cli: Cli, files: WorkflowFiles
) -> None:
    """Its lock was released, so that nobody is taken over from."""
    nonce = owner_of(files).nonce
    with open_workflow(files, "sync-status", lambda _: None):
        pass
    assert not os.path.exists(files.lock)
    leave(files, nonce)
    assert_canceled(cli, cli.run("run", "1", env=REQUEUED))


def test_control_without_a_request_for_it_the_requeued_job_goes_on(cli: Cli, files: WorkflowFiles) -> None:
    leave(files, "another")
    done = cli.run("run", "1", env=REQUEUED)
    assert (done.code, "canceled" in done.err) == (0, False)
    assert starts(cli) == [(1, 1), (1, 2), (2, 2)]


def test_a_run_by_hand_goes_on_all_the_same(cli: Cli, files: WorkflowFiles) -> None:
    """Somebody asks for it after the cancel."""
    leave(files, owner_of(files).nonce)
    done = cli.run("run", "1", env={"SLURM_JOB_ID": ""})
    assert (done.code, "asked for on login" in done.err) == (0, True)
    assert starts(cli) == [(1, 1), (1, 2), (2, 2)]
    assert len([e for e in cli.events() if e["event"] == "workflow_canceled"]) == 1


def test_an_owner_that_comes_after_another_is_meant_too(files: WorkflowFiles) -> None:
    leave(files, "dead")
    owner = replace(owner_of(files), nonce="new")
    assert requests.find(files, owner) is None
    assert requests.find(files, owner, {"dead"}) is not None
