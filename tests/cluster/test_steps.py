"""execution_config.mode: slurm on a real cluster: each job is a job step, placed over the nodes of the allocation."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.cluster import Cluster
from support.supervised import whole_lines
from support.waiting import Fifo, wait_for_end

PROGRAM = Path(sys.executable).parent / "torc-supervise"

# Blocked and waited for: a handler runs between two steps of the program, and a read that begins just after the signal
# has come would not end.
SAVES = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
said = os.open(os.environ["SAID"], os.O_WRONLY)
name = os.environ["TORC_JOB_NAME"]
os.write(said, f"ready {name} {os.uname().nodename} {os.getpid()}\\n".encode())
signal.sigwait({signal.SIGTERM})
while "deaf" in name:
    signal.sigwait({signal.SIGTERM})
with open(name + ".ckpt", "w") as file:
    file.write("saved")
"""


class Allocation:
    """A workflow that runs in an allocation: the supervisor is the batch process."""

    def __init__(self, cluster: Cluster, directory: Path, said: Fifo) -> None:
        self.cluster, self.directory, self.said = cluster, directory, said
        (directory / "saves.py").write_text(SAVES)
        self.job = ""

    def submit(self, jobs: list[dict[str, Any]], *options: str, **execution: Any) -> None:
        workflow = {"name": "w", "jobs": jobs, "execution_config": {"mode": "slurm", **execution}}
        (self.directory / "w.json").write_text(json.dumps(workflow))
        script = f"export SAID={self.said.path}; exec {PROGRAM} run w.json"
        self.job = self.cluster.sbatch(
            script, "--nodes=3", "--exclusive", "--time=5", *options, cwd=self.directory
        )

    def ready(self, count: int) -> dict[str, tuple[str, int]]:
        """Wait for so many jobs: name -> node and pid."""
        lines = [line.split() for line in self.said.expect(count, "ready")]
        return {name: (node, int(pid)) for _, name, node, pid in lines}

    def supervisor(self) -> psutil.Process:
        return psutil.Process(self.run_started()["pid"])

    def run_started(self) -> dict[str, Any]:
        """Its record, which may be written after the first job has begun."""
        self.cluster.wait(lambda: self.of("run_started"), "the run is not on record")
        return self.of("run_started")[0]

    def wait_for_starts(self, count: int) -> list[dict[str, Any]]:
        """The records of so many starts; a job may say that it is ready before its own is written."""
        self.cluster.wait(lambda: len(self.of("job_started")) >= count, "not all starts are on record")
        return self.of("job_started")

    def of(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["event"] == event]

    def end(self) -> dict[str, dict[str, Any]]:
        """Wait for the end of the allocation: job name -> its result."""
        self.cluster.wait_for_end(self.job)
        return self.results()

    def results(self) -> dict[str, dict[str, Any]]:
        listed = self.cluster.run(str(PROGRAM), "results", "1", "-f", "json", cwd=self.directory)
        return {item["job_name"]: item for item in json.loads(listed.stdout)["items"]}

    def records(self) -> list[dict[str, Any]]:
        journal = self.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
        return whole_lines(journal)

    def stderr(self, job_id: int) -> str:
        return (self.directory / "torc_output" / "job_stdio" / f"job_wf1_j{job_id}_r1_a1.e").read_text()

    def steps(self) -> dict[str, str]:
        """Name -> id of the steps that squeue shows."""
        lines = self.cluster.run("squeue", "--steps", "--noheader", "--format=%j %i").stdout.splitlines()
        return dict(line.split() for line in lines)

    def nothing_is_left(self) -> None:
        self.cluster.wait(lambda: not self.cluster.leftovers(), "processes are left on the nodes")


@pytest.fixture
def allocation(cluster: Cluster, tmp_path: Path) -> Iterator[Allocation]:
    said = Fifo(tmp_path / "said")
    yield Allocation(cluster, tmp_path, said)
    said.close()


def job(
    name: str, command: str = f"{sys.executable} saves.py", cpus: int = 1, **fields: Any
) -> dict[str, Any]:
    needs = {"num_cpus": cpus, "memory": "500m", "num_nodes": fields.pop("nodes", 1)}
    return {"name": name, "command": command, "resource_requirements": needs, **fields}


def saving(name: str, **fields: Any) -> dict[str, Any]:
    return job(name, supports_termination=True, checkpoint=f"{name}.ckpt", **fields)


def test_nine_jobs_of_four_cpus_run_three_at_a_time_on_three_nodes(allocation: Allocation) -> None:
    command = "echo ready $TORC_JOB_NAME $(hostname) $$ >$SAID; read line <go-$TORC_JOB_NAME"
    names = [f"j{n}" for n in range(1, 10)]
    for name in names:  # one for each: readers of the same pipe would share its bytes
        os.mkfifo(allocation.directory / f"go-{name}")
    allocation.submit([job(name, command, cpus=4) for name in names])
    for _ in range(3):
        begun = allocation.ready(3)
        assert sorted(node for node, _ in begun.values()) == ["node1", "node2", "node3"]
        assert not allocation.said.drain(), "a fourth one has begun"
        for name in begun:
            (allocation.directory / f"go-{name}").write_text("go\n")
    assert {result["status"] for result in allocation.end().values()} == {"completed"}


def test_a_two_node_job_gets_two_nodes_and_may_start_steps_on_them(allocation: Allocation) -> None:
    command = (
        "echo $TORC_NODELIST $TORC_NUM_NODES; srun --nodelist=$TORC_NODELIST --ntasks-per-node=2 hostname"
    )
    allocation.submit([job("mpi", command, cpus=4, nodes=2), saving("beside", cpus=4)])
    begun = allocation.ready(1)
    allocation.cluster.wait(
        lambda: "wf1_j1_r1_a1" not in allocation.steps(), "the job of two nodes does not end"
    )
    os.kill(begun["beside"][1], signal.SIGTERM)
    results = allocation.end()
    assert {name: result["status"] for name, result in results.items()} == {
        "mpi": "completed",
        "beside": "completed",
    }
    printed = (allocation.directory / "torc_output" / "job_stdio" / "job_wf1_j1_r1_a1.o").read_text().split()
    assert printed[:2] == ["node[1-2]", "2"]
    assert sorted(printed[2:]) == ["node1", "node1", "node2", "node2"]
    placed = {r["job_id"]: r["nodes"] for r in allocation.records() if r["event"] == "job_started"}
    assert placed == {1: ["node1", "node2"], 2: ["node3"]}


def test_exit_codes_and_signals_are_told_as_they_are(allocation: Allocation) -> None:
    commands = {"zero": "exit 0", "seven": "exit 7", "segv": "kill -SEGV $$", "none": "no-such-program"}
    allocation.submit([job(name, command) for name, command in commands.items()])
    results = allocation.end()
    assert {name: (r["status"], r["return_code"], r.get("signal")) for name, r in results.items()} == {
        "zero": ("completed", 0, None),
        "seven": ("failed", 7, None),
        "segv": ("failed", 139, "SIGSEGV"),
        "none": ("failed", 127, None),
    }
    assert "no-such-program" in allocation.stderr(4)


def test_a_warning_has_steps_save_and_the_deaf_killed_on_every_node(allocation: Allocation) -> None:
    names = [*(f"save{n}" for n in range(3)), "deaf"]
    allocation.submit(
        [saving(name, cpus=3) for name in names[:3]] + [saving("deaf")], srun_termination_signal="TERM@30"
    )
    begun = allocation.ready(4)
    assert len({node for node, _ in begun.values()}) == 3
    allocation.supervisor().terminate()
    results = allocation.end()
    assert {name: (r["status"], r["ended"]) for name, r in results.items()} == {
        **dict.fromkeys(names[:3], ("terminated", "in_grace")),
        "deaf": ("terminated", "killed"),
    }
    assert [results[name]["checkpoint_saved"] for name in names] == [True, True, True, False]
    assert [results[name]["return_code"] for name in names] == [0, 0, 0, 152]
    allocation.nothing_is_left()


def test_p10_kill_9_of_the_supervisor_leaves_nothing_on_the_nodes(allocation: Allocation) -> None:
    """Its end is the end of the batch job, so Slurm may be faster: nothing is left either way."""
    allocation.submit([saving("a", cpus=4), saving("b", cpus=4)], srun_termination_signal="TERM@20")
    begun = allocation.ready(2)
    allocation.wait_for_starts(2)
    supervisor = allocation.supervisor()
    keeper = psutil.Process(allocation.run_started()["keeper_pid"])
    supervisor.kill()
    wait_for_end(keeper.pid)
    for _, pid in begun.values():
        wait_for_end(pid)
    allocation.cluster.wait_for_end(allocation.job)
    allocation.nothing_is_left()


def test_p10_kill_9_of_supervisor_and_keeper_leaves_nothing_on_the_nodes(allocation: Allocation) -> None:
    allocation.submit([saving("a", cpus=4), saving("deaf", cpus=4), job("no", "sleep 600; true", cpus=4)])
    begun = allocation.ready(2)
    started = allocation.run_started()
    os.kill(started["pid"], signal.SIGSTOP)
    os.kill(started["keeper_pid"], signal.SIGKILL)
    os.kill(started["pid"], signal.SIGKILL)
    for _, pid in begun.values():
        wait_for_end(pid)
    allocation.cluster.wait_for_end(allocation.job)
    allocation.nothing_is_left()


def test_scancel_of_one_step_ends_that_job_alone_and_it_runs_again(allocation: Allocation) -> None:
    allocation.submit([saving("gone", cpus=4), saving("other", cpus=4)])
    begun = allocation.ready(2)
    allocation.cluster.scancel(allocation.steps()["wf1_j1_r1_a1"])
    allocation.cluster.wait(
        lambda: [r for r in allocation.records() if r["event"] == "job_ended" and r["job_id"] == 1],
        "no result",
    )
    os.kill(begun["other"][1], signal.SIGTERM)
    results = allocation.end()
    assert {name: (r["status"], r["ended"]) for name, r in results.items()} == {
        "gone": ("terminated", "lost"),
        "other": ("completed", "exited"),
    }
    assert results["gone"]["why"] == "step_lost"
    assert "CANCELLED" in allocation.stderr(1)


def test_a_step_whose_srun_was_killed_is_canceled_through_slurm(allocation: Allocation) -> None:
    """Control: without that its task goes on, because an srun that is killed with its helper closes nothing."""
    allocation.submit([saving("orphan", cpus=4), saving("other", cpus=4)])
    begun = allocation.ready(2)
    (started,) = [record for record in allocation.wait_for_starts(2) if record["job_id"] == 1]
    (srun,) = psutil.Process(started["pid"]).children()
    os.killpg(srun.pid, signal.SIGKILL)
    wait_for_end(begun["orphan"][1])
    os.kill(begun["other"][1], signal.SIGTERM)
    results = allocation.end()
    assert {name: (r["status"], r["ended"]) for name, r in results.items()} == {
        "orphan": ("terminated", "lost"),
        "other": ("completed", "exited"),
    }
    allocation.nothing_is_left()


def test_a_node_that_goes_down_costs_its_own_jobs_alone(allocation: Allocation) -> None:
    """With --no-kill; otherwise Slurm ends the whole allocation."""
    allocation.submit([saving(name, cpus=4) for name in ("a", "b")], "--no-kill", "--no-requeue")
    begun = allocation.ready(2)
    down = next(name for name, (node, _) in begun.items() if node == "node2")
    other = next(name for name in begun if name != down)
    allocation.cluster.crash("node2")
    allocation.cluster.wait(
        lambda: [r for r in allocation.records() if r["event"] == "job_ended"], "no result"
    )
    os.kill(begun[other][1], signal.SIGTERM)
    results = allocation.end()
    assert {name: (r["status"], r["ended"]) for name, r in results.items()} == {
        down: ("terminated", "lost"),
        other: ("completed", "exited"),
    }


def test_scancel_of_the_allocation_leaves_nothing_and_no_job_counts_as_done(allocation: Allocation) -> None:
    allocation.submit([saving("a", cpus=4), saving("b", cpus=4), saving("deaf", cpus=4)])
    allocation.ready(3)
    allocation.cluster.scancel(allocation.job)
    results = allocation.end()
    assert {name: r["status"] for name, r in results.items()} == dict.fromkeys(
        ("a", "b", "deaf"), "terminated"
    )
    allocation.nothing_is_left()


def test_a_step_that_is_to_begin_while_the_controller_is_away_can_be_ended(allocation: Allocation) -> None:
    """srun hears nothing then."""
    allocation.submit([saving("runs", cpus=4), saving("begins", cpus=4, depends_on=["runs"])], "--no-requeue")
    begun = allocation.ready(1)
    supervisor = allocation.supervisor()
    allocation.cluster.stop_controller()
    os.kill(begun["runs"][1], signal.SIGTERM)
    allocation.cluster.wait(
        lambda: [r for r in allocation.records() if r["event"] == "job_started" and r["job_id"] == 2],
        "not started",
    )
    supervisor.terminate()
    wait_for_end(supervisor.pid)
    results = allocation.results()
    allocation.cluster.start_controller()
    assert {name: r["status"] for name, r in results.items()} == {"runs": "completed", "begins": "terminated"}
    allocation.nothing_is_left()


def test_steps_go_on_and_begin_while_the_controller_is_away(allocation: Allocation) -> None:
    """One that runs ends as it would; one that is to begin begins when the controller is back."""
    allocation.submit([saving("runs", cpus=4), saving("begins", cpus=4, depends_on=["runs"])])
    begun = allocation.ready(1)
    allocation.cluster.stop_controller()
    os.kill(begun["runs"][1], signal.SIGTERM)
    allocation.cluster.wait(
        lambda: [r for r in allocation.records() if r["event"] == "job_started" and r["job_id"] == 2],
        "not started",
    )
    assert [r["status"] for r in allocation.records() if r["event"] == "job_ended"] == ["completed"]
    allocation.cluster.start_controller()
    allocation.cluster.wait(lambda: "wf1_j2_r1_a1" in allocation.steps(), "no step for the second job")
    begun = allocation.ready(1)
    os.kill(begun["begins"][1], signal.SIGTERM)
    assert {r["status"] for r in allocation.end().values()} == {"completed"}
