"""The private cluster itself does what the other tests of this directory rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.cluster import NODES, SCRIPT, Cluster, clean_environment
from support.waiting import Fifo

LISTENER = f"{sys.executable} {Path(__file__).parents[1]}/support/children/says_signals.py"
# The batch script's own process is the listener, so nothing but Slurm decides what it gets.
BATCH = f"exec {LISTENER} batch $SAID"
BATCH_AND_STEP = f"srun --ntasks=1 {LISTENER} step $SAID &\n{BATCH}"


@pytest.fixture
def said(tmp_path: Path) -> Iterator[Fifo]:
    """What jobs say to $SAID."""
    fifo = Fifo(tmp_path / "said")
    yield fifo
    fifo.close()


def listening(
    cluster: Cluster, said: Fifo, *options: str, script: str = BATCH_AND_STEP
) -> tuple[str, dict[str, int]]:
    """Submit a job that says which signals it gets; returns its id and, once they listen, name -> pid."""
    job = cluster.sbatch(
        script, f"--export=ALL,SAID={said.path}", "--ntasks=2", *options, cwd=said.path.parent
    )
    return job, ready(said, 2 if script == BATCH_AND_STEP else 1)


def ready(said: Fifo, count: int = 2) -> dict[str, int]:
    lines = [line.split() for line in said.expect(count)]
    assert {line[1] for line in lines} == {"ready"}
    return {line[0]: int(line[3]) for line in lines}


def test_three_nodes_are_idle(cluster: Cluster) -> None:
    assert [cluster.node(name)["State"] for name in NODES] == ["IDLE", "IDLE", "IDLE"]


def test_a_job_on_each_node_sees_a_host_name_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [cluster.sbatch("hostname", f"--nodelist={node}", cwd=tmp_path) for node in NODES]
    assert [cluster.wait_for_end(job) for job in jobs] == ["COMPLETED"] * 3
    assert [cluster.output(job).strip() for job in jobs] == list(NODES)


def test_steps_from_a_batch_script_reach_other_nodes_and_back(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch('echo in | srun --label bash -c "hostname; cat"', "--nodes=3", cwd=tmp_path)
    assert cluster.wait_for_end(job) == "COMPLETED"
    lines = sorted(cluster.output(job).splitlines())
    assert lines == ["0: in", "0: node1", "1: in", "1: node2", "2: in", "2: node3"]


def test_a_job_gets_the_gpus_that_it_asks_for(cluster: Cluster, tmp_path: Path) -> None:
    script = 'echo "$SLURM_JOB_GPUS ${CUDA_VISIBLE_DEVICES-none}"'
    jobs = [cluster.sbatch(script, *options, cwd=tmp_path) for options in (["--gres=gpu:2"], [])]
    assert [cluster.wait_for_end(job) for job in jobs] == ["COMPLETED"] * 2
    assert [cluster.output(job) for job in jobs] == ["0,1 0,1\n", " none\n"]


def test_the_job_sees_the_programs_of_this_environment(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch("command -v torc-supervise", cwd=tmp_path)
    assert cluster.wait_for_end(job) == "COMPLETED"


def test_cancel_signals_batch_script_and_steps(cluster: Cluster, said: Fifo) -> None:
    job, pids = listening(cluster, said)
    cluster.scancel(job)
    said.expect(starting_with="batch TERM")
    said.expect(starting_with="step TERM")
    waiting.kill_all(pids.values())
    assert cluster.wait_for_end(job) == "CANCELLED"


# Slurm looks at time limits every 30 s, and counts in minutes.  It warns when it would be too late the next time: with
# one minute perhaps 10 s after the start, when not everybody may listen yet.  So that limit is set when they do.


@pytest.mark.parametrize(("option", "gets_it"), [("B:USR1@20", "batch"), ("USR1@20", "step")])
def test_the_warning_goes_to_the_batch_script_or_to_the_steps(
    cluster: Cluster, said: Fifo, option: str, gets_it: str
) -> None:
    job, _ = listening(cluster, said, "--time=2", f"--signal={option}")
    cluster.scontrol("update", f"JobId={job}", "TimeLimit=1")
    warned = said.expect(starting_with=f"{gets_it} USR1")
    others = [line for line in said.drain() if "USR1" in line]
    assert (warned, others) == ([f"{gets_it} USR1"], [])


def test_preemption_requeues(cluster: Cluster, said: Fifo) -> None:
    job, pids = listening(
        cluster, said, "--partition=preemptible", "--nodes=1", "--exclusive", "--nodelist=node2"
    )
    urgent = cluster.submit(
        "--partition=urgent", "--nodelist=node2", "--exclusive", "--output=/dev/null", "--wrap=true"
    )
    said.expect(starting_with="batch TERM")
    waiting.kill_all(pids.values())
    assert cluster.wait_for_end(urgent) == "COMPLETED"
    said.expect(starting_with="batch ready")
    assert cluster.job(job)["Restarts"] == "1"


@pytest.mark.parametrize("end", ["crash", "down"])
def test_a_job_is_requeued_when_its_node_goes_down(cluster: Cluster, said: Fifo, end: str) -> None:
    job, pids = listening(cluster, said, "--nodelist=node1", "--nodes=1")
    if end == "crash":
        cluster.crash("node1")
        assert not cluster.leftovers("node1")
        # Slurm would find out by itself, after SlurmdTimeout.
    cluster.down("node1")
    if end == "down":
        said.expect(starting_with="batch TERM")
        waiting.kill_all(pids.values())
    # It may run again by the time that anybody looks, where the node has returned to service by itself.
    cluster.wait(
        lambda: cluster.job(job)["Restarts"] == "1" and cluster.state(job) != "COMPLETING", "not requeued"
    )
    if end == "crash":
        cluster.start_node("node1")
    cluster.resume("node1")
    said.expect(starting_with="batch ready")
    assert cluster.job(job)["Restarts"] == "1"


def test_jobs_run_on_while_the_controller_is_away(cluster: Cluster, said: Fifo) -> None:
    job, pids = listening(cluster, said, script=BATCH)
    cluster.stop_controller()
    assert cluster.run("squeue", check=False).returncode != 0
    os.kill(pids["batch"], signal.SIGUSR2)
    waiting.wait_for_end(pids["batch"])
    cluster.start_controller()
    assert cluster.wait_for_end(job) == "COMPLETED"


# -- clusters of their own --------------------------------------------------------------------------------------


def test_two_clusters_side_by_side(cluster: Cluster, tmp_path: Path) -> None:
    other = Cluster(tmp_path / "other")
    try:
        job = other.sbatch("hostname", cwd=tmp_path)
        assert other.wait_for_end(job) == "COMPLETED"
        assert cluster.run("squeue", "--noheader", "--states=all", f"--name={job}").stdout == ""
    finally:
        other.close()
    assert [cluster.node(name)["State"] for name in NODES] == ["IDLE", "IDLE", "IDLE"]


def belongs_to(directory: Path) -> list[int]:
    return [x for x in waiting.marked(f"SLURM_CONF={directory}/") if waiting.state_of(x) not in ("Z", None)]


@pytest.mark.parametrize("keeper", ["tidies up", "was killed"])
def test_down_leaves_nothing(said: Fifo, tmp_path: Path, keeper: str) -> None:
    own = Cluster(tmp_path / "own")
    listening(own, said, "--nodes=3", script=f"setsid sleep 1000 &\n{BATCH}")
    assert len(belongs_to(own.directory)) > 8
    if keeper == "was killed":
        os.kill(own.keeper, signal.SIGKILL)
    own.close()
    assert belongs_to(own.directory) == []


def test_a_cluster_goes_with_its_owner(tmp_path: Path) -> None:
    script = f"{SCRIPT} up --owner=$$ {tmp_path}/own >/dev/null && kill -KILL $$"
    subprocess.run(["bash", "-c", script], env=clean_environment(), stdin=subprocess.DEVNULL, check=False)
    waiting.wait_until(lambda: not belongs_to(tmp_path / "own"), "its processes are still there")


def test_run_exits_as_the_command_does(tmp_path: Path) -> None:
    command = "srun --nodes=3 hostname; echo $SLURM_CONF >conf; exit 7"
    done = subprocess.run(
        [str(SCRIPT), "run", "--", "bash", "-c", command],
        cwd=tmp_path,
        env=clean_environment() | {"SLURM_JOB_ID": "4711", "SLURM_CONF": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, sorted(done.stdout.split())) == (7, list(NODES)), done.stderr
    directory = Path((tmp_path / "conf").read_text()).parent
    assert belongs_to(directory) == []
    assert not directory.exists()
