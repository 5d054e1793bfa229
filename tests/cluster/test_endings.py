"""How an allocation ends, and that everything is saved and recorded before it does (DESIGN section 4).

The cluster's KillWait is 10 s.  Slurm signals all processes of a job (proctrack/linuxproc), the supervisor's jobs
included.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.allocated import DEAF, WORKFLOW, Site, options
from support.cluster import Cluster


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path)


@pytest.fixture
def deaf(cluster: Cluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path, DEAF)


def assert_killed_in_time(site: Site) -> None:
    """Nothing could be saved, but it is on disk what became of the job, before Slurm's SIGKILL came."""
    result = site.result("deaf")
    assert (result["status"], result["ended"], result["signal"]) == ("terminated", "killed", "SIGKILL")
    assert site.journal.entries[-1]["event"] == "run_ended"
    assert site.journal.entries[-1]["exit_code"] == 75


# -- somebody ends it -------------------------------------------------------------------------------------------


def test_scancel(site: Site) -> None:
    job = site.allocate("--time=5")
    site.wait_for_work()
    site.cluster.scancel(job)
    assert site.wait_for_end()["JobState"] == "CANCELLED"
    site.assert_saved()
    assert "SIGTERM received" in site.said()
    assert "to go on: torc-supervise submit 1" in site.said()
    site.go_on()


def test_scancel_of_a_job_that_does_not_listen_is_recorded_before_slurms_sigkill(deaf: Site) -> None:
    job = deaf.allocate("--time=5")
    deaf.wait_for_work()
    deaf.cluster.scancel(job)
    assert deaf.wait_for_end()["JobState"] == "CANCELLED"
    assert_killed_in_time(deaf)
    assert "Slurm is ending the job" in deaf.said()


@pytest.mark.parametrize("signal", ["TERM", "USR1", "INT"])
def test_scancel_signal_to_the_batch_process_is_a_wish_of_somebodys(site: Site, signal: str) -> None:
    job = site.allocate("--time=5")
    site.wait_for_work()
    site.cluster.scancel(job, "--batch", f"--signal={signal}")
    ended = site.wait_for_end()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0")
    site.assert_saved()
    assert f"SIG{signal} received" in site.said()


# -- Slurm gives the node to somebody else ----------------------------------------------------------------------


def test_preempted_requeued_and_completed_by_itself(site: Site) -> None:
    job = site.allocate(
        "--partition=preemptible", "--nodelist=node1", "--requeue", "--open-mode=append", "--time=5"
    )
    site.wait_for_work()
    other = site.cluster.sbatch(
        "sleep 5", "--partition=urgent", "--nodelist=node1", "--exclusive", cwd=site.directory
    )
    site.cluster.wait_until(other, "RUNNING", "COMPLETED")
    site.wait_for_record("run_ended", run_id=1)
    ended = site.wait_for_end(job)
    site.assert_saved(run_id=1)  # looked at when nobody writes any more: run 2 begins when Slurm wants it to
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("COMPLETED", "0:0", "1")
    assert {entry["slurm_job_id"] for entry in site.journal.of("run_started")} == {job}
    site.assert_completed()


def test_preempted_with_a_grace_time(deaf: Site) -> None:
    """Slurm lets the job run for the partition's GraceTime, 10 s: its end has moved."""
    deaf.allocate("--partition=graceful", "--nodelist=node2", "--no-requeue", "--time=5")
    deaf.wait_for_work()
    other = deaf.cluster.sbatch(
        "true", "--partition=urgent", "--nodelist=node2", "--exclusive", cwd=deaf.directory
    )
    deaf.wait_for_end(deaf.jobs[0])
    assert_killed_in_time(deaf)
    assert deaf.journal.of("end_changed")
    assert deaf.cluster.wait_for_end(other) == "COMPLETED"


def test_a_node_that_is_declared_down(site: Site) -> None:
    job = site.allocate("--nodelist=node3", "--no-requeue", "--time=5")
    site.wait_for_work()
    site.cluster.down("node3")
    site.cluster.wait_until(job, "NODE_FAIL")
    site.cluster.wait(lambda: not site.cluster.leftovers(), "something is left on the node")
    site.assert_saved()


# -- the limit is another one -----------------------------------------------------------------------------------


def test_a_limit_that_is_raised_is_followed(cluster: Cluster, tmp_path: Path) -> None:
    site = Site(cluster, tmp_path, WORKFLOW + options(headroom=5, lead=5))
    job = site.allocate("--time=1")
    site.wait_for_work()
    cluster.scontrol("update", f"JobId={job}", "TimeLimit=5")
    site.wait_for_record("end_changed")
    cluster.wait(lambda: "later than before" in site.said(), "it is not said")  # the record may come first
    cluster.scancel(job, "--batch", "--signal=USR1")
    assert site.wait_for_end()["ExitCode"] == "75:0"
    site.assert_saved()


def test_a_limit_that_is_lowered_ends_it_sooner(site: Site) -> None:
    """Slurm is asked 45 s after the start, when the first job would be asked to save 90 s after it."""
    job = site.allocate("--time=3")
    site.wait_for_work()
    site.cluster.scontrol("update", f"JobId={job}", "TimeLimit=2")
    ended = site.wait_for_end()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0")
    assert "earlier than before" in site.said()
    assert site.result("train")["why"] == "wall_time"
    site.assert_saved()


# -- slurmctld is out of reach ----------------------------------------------------------------------------------


def test_slurmctld_is_out_of_reach_at_the_start(site: Site) -> None:
    job = site.allocate("--time=5", before="while [ ! -e go ]; do sleep 0.1; done")
    site.cluster.wait_until(job, "RUNNING")
    site.cluster.stop_controller()
    (site.directory / "go").touch()
    site.wait_for_work()
    assert "does not say when job" in site.said()
    site.cluster.start_controller()
    site.wait_for_record("end_changed")
    site.cluster.scancel(job)
    site.wait_for_end()
    site.assert_saved()


def test_slurmctld_is_out_of_reach_at_the_end(cluster: Cluster, tmp_path: Path) -> None:
    # A minute is left when it is over, in which slurmctld hears of it before it finds the job to be over its limit.
    site = Site(cluster, tmp_path, WORKFLOW + options(headroom=5, lead=70))
    job = site.allocate("--time=2")
    site.wait_for_work()
    site.cluster.stop_controller()
    site.wait_for_record("run_ended", run_id=1)
    site.assert_saved()
    site.cluster.start_controller()
    ended = site.wait_for_end(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0")
    site.go_on()
