"""What a supervisor makes of the allocation that it finds itself in."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.allocated import Site
from support.cluster import Cluster

QUICK = "name: quick\njobs:\n  - name: quick\n    command: echo $TORC_END_TIME\n"
RUN = (sys.executable, "-P", "-m", "torc_supervise_cli", "run", "workflow.yaml")


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path, QUICK)


def started(site: Site) -> dict[str, Any]:
    (record,) = site.journal.of("run_started")
    return record


def test_a_batch_job_of_two_nodes(site: Site) -> None:
    job = site.allocate("--nodes=2", "--ntasks-per-node=1", "--mem=300", "--time=7")
    assert site.wait_for_end()["ExitCode"] == "0:0", site.said()
    record = started(site)
    assert (record["slurm_job_id"], record["host"], len(record["nodes"])) == (job, record["nodes"][0], 2)
    assert (record["num_cpus"], record["memory_bytes"], record["num_gpus"]) == (1, 300 << 20, 0)
    assert record["end_time"] > record["t"]
    assert f"job {job} has 2 nodes and jobs run on this one alone" in site.said()


def test_options_come_first(site: Site) -> None:
    site.allocate("--time=7", run=("--num-cpus", "3", "--memory-gb", "1", "--time-limit", "90s"))
    assert site.wait_for_end()["ExitCode"] == "0:0", site.said()
    record = started(site)
    assert (record["num_cpus"], record["memory_bytes"]) == (3, 1 << 30)
    lasts = datetime.fromisoformat(record["end_time"]) - datetime.fromisoformat(record["t"])
    assert lasts.total_seconds() <= 90.0, "the earlier end counts"


def test_a_job_without_a_limit(site: Site) -> None:
    job = site.cluster.run("sinfo", "--noheader", "--format=%l", "--partition=normal").stdout.strip()
    if job != "infinite":
        pytest.skip("the partition has a limit")
    site.allocate("--time=UNLIMITED")
    assert site.wait_for_end()["ExitCode"] == "0:0", site.said()
    assert "end_time" not in started(site)


def test_in_a_step_of_an_interactive_job(site: Site) -> None:
    done = site.cluster.run("srun", "--time=7", "--nodelist=node2", *RUN, cwd=site.directory)
    record = started(site)
    assert (record["host"], record["nodes"]) == ("node2", ["node2"])
    assert "end_time" in record
    assert "warning" not in done.stderr


def test_in_the_shell_of_salloc_jobs_run_where_the_shell_is(site: Site) -> None:
    done = site.cluster.run("salloc", "--time=7", *RUN, cwd=site.directory)
    assert "jobs run here, on " in done.stderr
    record = started(site)
    assert record["host"] not in record["nodes"]
    assert "end_time" in record


def test_a_shell_that_has_inherited_the_variables_of_a_job_that_is_over(site: Site) -> None:
    job = site.cluster.sbatch("true", cwd=site.directory)
    site.cluster.wait_for_end(job)
    done = site.cluster.run(
        *RUN, cwd=site.directory, environment={"SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "n[1-"}
    )
    assert f"SLURM_JOB_ID is {job}, but Slurm has no such job running" in done.stderr
    assert "slurm_job_id" not in started(site)
