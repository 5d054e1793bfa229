"""A task of a job array: squeue's name for it is not its SLURM_JOB_ID."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cluster import Cluster
from torc_supervise.slurm import jobs


def test_a_task_of_an_array_is_known_by_its_job_id(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor in one would think itself in no allocation, and others would think it gone."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    array = cluster.sbatch(
        'echo "$SLURM_JOB_ID" >id.$SLURM_ARRAY_TASK_ID; exec sleep 300', "--array=1-2", cwd=tmp_path
    )
    files = [tmp_path / "id.1", tmp_path / "id.2"]
    cluster.wait(lambda: all(file.exists() and file.read_text() for file in files), "both tasks to begin")
    ids = {file.read_text().strip() for file in files}
    assert len(ids) == 2
    found = jobs.look(ids)
    assert found.keys() == ids
    assert all(job.is_running and job.end is not None for job in found.values())
    cluster.scancel(array)
