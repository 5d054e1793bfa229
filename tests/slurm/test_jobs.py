"""squeue's lines, and what its silence means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torc_supervise.slurm import commands, jobs

LINE = "42|RUNNING|None|1767225600|1767222000|1767221000|n[1-2]|gpu|(null)|torc_wf1_a|b"


def stand_in(directory: Path, name: str, script: str) -> None:
    """A program of that name, for errors that a healthy cluster cannot produce."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_line_of_squeue() -> None:
    job = jobs.parse(LINE)
    assert job == jobs.SlurmJob(
        "42", "RUNNING", None, 1767225600.0, 1767222000.0, 1767221000.0, "n[1-2]", "gpu", None, "torc_wf1_a|b"
    )
    assert job.is_running
    assert not job.is_over


@pytest.mark.parametrize(
    ("state", "what"),
    [("PENDING", "is_queued"), ("COMPLETING", "is_ending"), ("CANCELLED", "is_over"), ("TIMEOUT", "is_over")],
)
def test_each_state_is_one_thing(state: str, what: str) -> None:
    job = jobs.SlurmJob("1", state)
    assert [x for x in ("is_queued", "is_running", "is_ending", "is_over") if getattr(job, x)] == [what]


def test_no_limit_is_no_end() -> None:
    assert jobs.parse("1|PENDING|Priority|N/A|N/A|1767221000||gpu||x").end is None


def test_a_job_that_squeue_does_not_know_is_gone(path: Path) -> None:
    stand_in(path, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert jobs.look(["42"]) == {}


def test_nobody_is_asked_about_nothing(path: Path) -> None:
    stand_in(path, "squeue", "exit 1")
    assert jobs.look([]) == {}


def test_a_silent_controller_is_told_from_a_refusal(path: Path) -> None:
    stand_in(path, "squeue", "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(commands.SlurmUnreachable):
        jobs.look(["42"])
    stand_in(path, "squeue", "echo 'squeue: error: Invalid user' >&2; exit 1")
    with pytest.raises(commands.SlurmRefused, match="Invalid user"):
        jobs.look(["42"])


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(commands.SlurmMissing, match="'squeue' was not found on PATH"):
        jobs.look(["42"])


def test_times_are_epoch_seconds_and_messages_english(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    stand_in(path, "squeue", 'echo "$LC_ALL $SLURM_TIME_FORMAT ${SQUEUE_FORMAT-none}"')
    assert commands.run(["squeue"]).split() == ["C", "%s", "none"]


def test_another_try_helps(path: Path) -> None:
    stand_in(
        path,
        "sbatch",
        f'test -e {path}/tried && echo 7 && exit; touch {path}/tried; echo "connection refused" >&2; exit 1',
    )
    said: list[str] = []
    assert commands.retrying(["sbatch"], said.append, pause=0.0) == "7\n"
    assert said == ["connection refused; trying again in 0 s (5 tries left)"]
    (path / "tried").unlink()
    stand_in(path, "sbatch", 'echo "connection refused" >&2; exit 1')
    with pytest.raises(commands.SlurmUnreachable):
        commands.retrying(["sbatch"], said.append, pause=0.0)


def test_nobodys_taste_hides_a_job(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQUEUE_PARTITION makes squeue silent about a job that runs: its supervisor would be taken for dead."""
    monkeypatch.setenv("SQUEUE_PARTITION", "urgent")
    monkeypatch.setenv("SCANCEL_PARTITION", "urgent")
    stand_in(
        path,
        "squeue",
        f'echo "$@" >{path}/asked; test -z "$SQUEUE_PARTITION$SCANCEL_PARTITION" && echo "{LINE}"',
    )
    assert jobs.look(["42"]).keys() == {"42"}
    assert "--all" in (path / "asked").read_text().split()
