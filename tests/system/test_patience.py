"""A job that Slurm starts at once: the lock is still held by the command that submitted it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.cli import Cli
from torc_supervise.operations import patience
from torc_supervise.operations.opened import open_workflow
from torc_supervise.store import layout

WORKFLOW = "{name: w, jobs: [{name: a, command: 'true'}]}"


@pytest.fixture
def created(cli: Cli) -> layout.WorkflowFiles:
    """Workflow 1, with something to run."""
    cli.write("w.yaml", WORKFLOW)
    assert cli.run("run", "w.yaml").code == 0
    assert cli.run("reset-status", "1").code == 0
    return layout.find(str(cli.directory / "torc_output"), 1)


def test_a_job_that_starts_at_once_waits_for_submit(
    cli: Cli, created: layout.WorkflowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_workflow(created, "submit", lambda _: None):
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        run = cli.start("run", "1")
        said = run.wait_for_err("waiting up to 60 s for 'torc-supervise submit'")
        assert f"pid {os.getpid()}" in said
    assert run.finish().code == 0


def test_another_supervisor_is_not_waited_for(
    cli: Cli, created: layout.WorkflowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_workflow(created, "run", lambda _: None):
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        done = cli.run("run", "1")
    assert done.code == 2
    assert "the workflow belongs to 'torc-supervise run'" in done.err
    assert "waiting" not in done.err


def test_outside_of_an_allocation_nobody_waits(cli: Cli, created: layout.WorkflowFiles) -> None:
    with open_workflow(created, "submit", lambda _: None):
        done = cli.run("run", "1", env={"SLURM_JOB_ID": ""})
    assert (done.code, "waiting" in done.err) == (2, False)


def test_the_patience_has_an_end(created: layout.WorkflowFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    # Its time passes as soon as it has said that it waits: the first look alone may take a busy machine seconds.
    said: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: patience.LONGEST * len(said))
    monkeypatch.setattr(patience, "clock", clock)
    with (
        open_workflow(created, "submit", lambda _: None),
        pytest.raises(patience.WorkflowBusy, match="submit"),
    ):
        patience.open_when_free(created, "run", said.append)
    assert len(said) == 1
    assert Path(created.lock).exists() is False
