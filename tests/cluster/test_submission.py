"""One submission: sbatch's answer may be lost, the job must not be queued twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.cluster import Cluster
from torc_supervise.slurm import batch, submission
from torc_supervise.slurm.batch import BatchScript, RunSettings
from torc_supervise.slurm.commands import SlurmUnreachable
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.schedulers import SlurmScheduler

# The real sbatch, whose answer gets lost the first time.
FORGETFUL = """#!/bin/bash
if [ ! -e {flag} ]; then
    touch {flag}
    {sbatch} "$@" > /dev/null
    echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
exec {sbatch} "$@"
"""


@pytest.fixture
def script(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchScript:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    files = WorkflowFiles(str(tmp_path), 1)
    os.makedirs(files.directory)
    workflow = Workflow("w", (Job(1, "a", "true"),))
    scheduler = SlurmScheduler("s", "a", extra="--hold")
    return batch.write_script(workflow, files, str(tmp_path), scheduler, workflow.jobs, RunSettings())


def test_a_job_that_was_queued_unseen_is_found(
    cluster: Cluster, script: BatchScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = cluster.run("which", "sbatch").stdout.strip()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(FORGETFUL.format(flag=tmp_path / "flag", sbatch=sbatch))
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    said: list[str] = []
    queued = submission.submit(script, said.append, pause=0.01)
    assert cluster.run("squeue", "--noheader", "--format=%i %j").stdout.split() == [
        queued.slurm_job_id,
        script.name,
    ]
    assert len(said) == 1
    assert "trying again" in said[0]


def test_a_controller_that_stays_away_is_told_of(cluster: Cluster, script: BatchScript) -> None:
    cluster.stop_controller()
    said: list[str] = []
    with pytest.raises(SlurmUnreachable, match="does not answer") as caught:
        submission.submit(script, said.append, tries=1)
    assert script.path in caught.value.message
    assert said == []


def test_a_job_waits_for_the_one_before_it(cluster: Cluster, script: BatchScript) -> None:
    first = submission.submit(script, print)
    second = submission.submit(script, print, after=first.slurm_job_id)
    assert cluster.job(second.slurm_job_id)["Dependency"].startswith(f"afterany:{first.slurm_job_id}(")
