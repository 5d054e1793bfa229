"""``submit`` against a real Slurm: what it queues, what it refuses, and what it finds again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cluster import LIMIT, Cluster
from support.supervised import whole_lines

TRAINING = """
name: "training: 'small' & more"
jobs:
  - {name: preprocess, command: pwd > where}
  - name: train
    command: nproc > cpus
    depends_on: [preprocess]
    supports_termination: true
    resource_requirements: {num_cpus: 2, memory: 300m}
slurm_schedulers:
  - {name: main, account: my_project, walltime: "00:05:00", extra: "EXTRA"}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: main, scheduler_type: slurm}
"""


class Desk:
    """A directory on the login host, and torc-supervise in it."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory

    def torc(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.cluster.run(
            "torc-supervise", *arguments, cwd=self.directory, check=False, environment=environment
        )

    def submit(self, *arguments: str, **environment: str) -> dict[str, Any]:
        done = self.torc("-f", "json", "workflows", "submit", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def submit_one(self, *arguments: str, **environment: str) -> str:
        (one,) = self.submit(*arguments, **environment)["submitted"]
        return str(one["slurm_job_id"])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["torc-supervise", *arguments],
            cwd=self.directory,
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, text: str) -> str:
        (self.directory / "w.yaml").write_text(text)
        return "w.yaml"

    def training(self, extra: str = "") -> str:
        return self.write(TRAINING.replace("EXTRA", extra.replace('"', '\\"')))

    def journal(self) -> Path:
        return self.directory / "torc_output" / "workflows" / "1" / "events.jsonl"

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in whole_lines(self.journal()) if record["event"] == name]

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.torc("status", "1", "-f", "json").stdout)
        return document

    def queue(self) -> list[str]:
        return self.cluster.run("squeue", "--noheader", "--format=%i").stdout.split()


@pytest.fixture
def desk(cluster: Cluster, tmp_path: Path) -> Desk:
    return Desk(cluster, tmp_path)


# -- what is queued -----------------------------------------------------------------------------------------------


def test_a_workflow_runs_in_the_allocation_that_it_asks_for(cluster: Cluster, tmp_path: Path) -> None:
    """Every character that sbatch, its filename patterns or a shell could take for something else."""
    directory = tmp_path / 'it\'s "50%j" & $HOME #1 ä'
    directory.mkdir()
    desk = Desk(cluster, directory)
    spec = desk.training("--comment='a \"b\" # c' --signal=TERM@100 -x node3")
    document = desk.submit(spec, "--auto-resubmit", "2")
    (one,) = document["submitted"]
    job = one["slurm_job_id"]
    assert (document["workflow_id"], document["created"], one["scheduler"]) == (1, True, "main")

    assert cluster.wait_for_end(job) == "COMPLETED", Path(one["output"]).read_text()
    assert desk.status()["state"] == "completed"
    assert (directory / "where").read_text() == f"{directory}\n"
    said = cluster.job(job)
    assert said["Comment"] == 'a "b" # c'
    assert said["ExcNodeList"] == "node3"
    assert said["Command"] == one["script"]
    assert (said["NumCPUs"], said["MinMemoryNode"], said["TimeLimit"]) == ("2", "556M", "00:05:00")
    assert "workflow 1 completed" in Path(one["output"]).read_text()

    (record,) = desk.events("allocation_submitted")
    assert (record["slurm_job_id"], record["why"], record["auto_resubmit"]) == (job, "submit", 2)
    assert record["output"] == one["output"]
    (run,) = desk.events("run_started")
    assert (run["slurm_job_id"], run["scheduler"], run["auto_resubmit"]) == (job, "main", 2)

    again = desk.torc("submit", "1")
    assert (again.returncode, desk.queue()) == (0, [])
    assert "nothing of workflow 1 is left to run" in again.stdout


def test_variables_of_the_terminal_do_not_win_over_the_file(desk: Desk) -> None:
    spec = desk.training("--hold --signal=USR1@100")
    job = desk.submit_one(
        spec,
        SBATCH_TIMELIMIT="1",
        SBATCH_JOB_NAME="x",
        SBATCH_WAIT="1",
        SBATCH_SIGNAL="KILL",
        SBATCH_ARRAY_INX="1-2",
        SBATCH_OUTPUT=str(desk.directory / "elsewhere.o"),
        SBATCH_ERROR=str(desk.directory / "elsewhere.e"),
        SBATCH_INPUT=str(desk.directory / "w.yaml"),
    )
    said = desk.cluster.job(job)
    assert said["TimeLimit"] == "00:05:00"
    assert said["JobName"].startswith("torc_wf1_1_training_small_more_")
    output = desk.directory / "torc_output" / f"slurm_output_wf1_sl{job}"
    assert (said["StdOut"], said["StdErr"]) == (f"{output}.o", f"{output}.e")
    assert said["StdIn"] == "/dev/null"
    assert desk.queue() == [job]


def test_serialized_allocations_wait_for_each_other(desk: Desk) -> None:
    text = TRAINING.replace("EXTRA", "").replace("name: main,", "name: main, serialize_allocations: true,")
    document = desk.submit(
        desk.write(text.replace("scheduler: main,", "scheduler: main, num_allocations: 2,"))
    )
    first, second = (one["slurm_job_id"] for one in document["submitted"])
    assert document["submitted"][1]["after"] == first
    assert desk.cluster.wait_for_end(first) == "COMPLETED"
    # What is not needed any more is canceled by the first, if it has not begun by then.
    assert desk.cluster.wait_for_end(second) in ("CANCELLED", "COMPLETED")
    assert desk.status()["state"] == "completed"
    assert [record.get("after") for record in desk.events("allocation_submitted")] == [None, first]


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_partition_that_does_not_exist_is_refused_before_anything_is_written(desk: Desk) -> None:
    done = desk.torc("submit", desk.training("--partition=gpu"))
    assert done.returncode == 2
    assert "Slurm knows no partition 'gpu'; there are: graceful, normal, preemptible, urgent" in done.stderr
    assert os.listdir(desk.directory) == ["w.yaml"]


def test_what_sbatch_refuses_is_shown_as_it_says_it(desk: Desk) -> None:
    done = desk.torc("submit", desk.training("--constraint=fast"))
    assert done.returncode == 2
    script = desk.directory / "torc_output" / "workflows" / "1" / "slurm_wf1_1.sh"
    assert f"sbatch refused {script}:" in done.stderr
    assert "sbatch: error: Batch job submission failed: Invalid feature specification" in done.stderr
    assert "mend the slurm_schedulers entry 'main' in the file" in done.stderr
    assert script.exists()
    # The way out that it names:
    assert desk.torc("reinitialize", "1", "--spec", desk.training()).returncode == 0
    assert desk.cluster.wait_for_end(desk.submit_one("1")) == "COMPLETED"
    assert desk.status()["state"] == "completed"


def test_a_second_allocation_is_refused_while_the_first_is_there(desk: Desk) -> None:
    first = desk.submit_one(desk.training("--hold"))
    refused = desk.torc("submit", "1")
    assert refused.returncode == 2
    assert f"has an allocation already: Slurm job {first} is PENDING (JobHeldUser)" in refused.stderr
    desk.cluster.scancel(first)
    desk.cluster.wait_for_end(first)
    second = desk.submit_one("1")
    assert second != first
    (gone,) = desk.events("allocation_ended")
    assert (gone["slurm_job_id"], gone["how"]) == (first, "gone")
    assert "CANCELLED" in gone["message"]


def test_a_running_workflow_is_refused(desk: Desk) -> None:
    text = TRAINING.replace("EXTRA", "").replace("pwd > where", "pwd > where; sleep 1000")
    job = desk.submit_one(desk.write(text))
    desk.cluster.wait(lambda: desk.events("job_started"), "no job was started")
    refused = desk.torc("submit", "1")
    assert refused.returncode == 2
    assert f"Slurm job {job}" in refused.stderr


def test_a_job_that_slurm_will_start_again_is_in_the_way(desk: Desk) -> None:
    """Requeued: its supervisor has left, and the job of the same id waits for its next start."""
    text = TRAINING.replace("EXTRA", "--requeue").replace("pwd > where", "pwd > where; sleep 1000")
    job = desk.submit_one(desk.write(text))
    desk.cluster.wait(lambda: desk.events("job_started"), "no job was started")
    desk.cluster.scontrol("requeuehold", job)
    desk.cluster.wait(lambda: desk.events("run_ended"), "the supervisor has not left")
    desk.cluster.wait(lambda: desk.cluster.state(job) == "PENDING", "it was not requeued")
    refused = desk.torc("submit", "1")
    assert refused.returncode == 2
    assert f"has an allocation already: Slurm job {job} is PENDING" in refused.stderr


# -- going on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [[], ["reinitialize", "1"]], ids=["submit-alone", "reinitialize-first"])
def test_a_terminated_workflow_goes_on_in_an_allocation(desk: Desk, first: list[str]) -> None:
    text = TRAINING.replace("EXTRA", "").replace(
        "nproc > cpus", "test -e saved || { touch saved; kill $PPID; sleep 99; }"
    )
    assert desk.torc("run", desk.write(text)).returncode == 75
    assert not first or desk.torc(*first).returncode == 0
    document = desk.submit("1")
    assert document["created"] is False
    assert document["reset"] == ({} if first else {"train": "was terminated"})
    (one,) = document["submitted"]
    assert desk.cluster.wait_for_end(one["slurm_job_id"]) == "COMPLETED"
    assert desk.status()["state"] == "completed"
    assert [record["job_id"] for record in desk.events("job_started")] == [1, 2, 2]


def test_what_was_canceled_in_the_queue_runs_when_it_is_submitted_again(desk: Desk) -> None:
    desk.submit_one(desk.training("--hold"))
    assert desk.torc("cancel", "1").returncode == 0
    assert desk.status()["state"] == "canceled"
    job = desk.submit_one("1")
    desk.cluster.scontrol("release", job)
    assert desk.cluster.wait_for_end(job) == "COMPLETED"
    assert desk.status()["state"] == "completed"


# -- trouble ------------------------------------------------------------------------------------------------------


def test_a_job_of_a_submission_that_was_killed_is_found_again(desk: Desk) -> None:
    """sbatch had taken the script, and nobody lived to write the id down."""
    job = desk.submit_one(desk.training("--hold"), "--auto-resubmit", "3")
    lines = desk.journal().read_text().splitlines(keepends=True)
    assert '"event":"allocation_submitted"' in lines[-1]
    desk.journal().write_text("".join(lines[:-1]))
    (one,) = desk.submit("1")["submitted"]
    assert (one["slurm_job_id"], one["adopted"]) == (job, True)
    assert desk.queue() == [job]
    (record,) = desk.events("allocation_submitted")
    assert (record["slurm_job_id"], record["scheduler"], record["auto_resubmit"]) == (job, "main", 3)
    assert desk.torc("submit", "1").returncode == 2, "and from now on it is in the way"


def test_a_controller_that_is_back_soon_delays_a_submission(desk: Desk) -> None:
    spec = desk.training()
    desk.cluster.stop_controller()
    submit = desk.start("submit", spec)
    assert submit.stderr is not None
    said = ""
    while "trying again in 10 s" not in said:
        line = submit.stderr.readline()
        assert line, said
        said += line
    desk.cluster.start_controller()
    out, rest = submit.communicate(timeout=LIMIT)
    assert submit.returncode == 0, said + rest
    (record,) = desk.events("allocation_submitted")
    assert f"Slurm job {record['slurm_job_id']}" in out
    assert desk.cluster.wait_for_end(record["slurm_job_id"]) == "COMPLETED"


def test_waiting_for_a_controller_can_be_interrupted(desk: Desk) -> None:
    spec = desk.training()
    desk.cluster.stop_controller()
    submit = desk.start("submit", spec)
    assert submit.stderr is not None
    said = ""
    while "trying again" not in said:
        line = submit.stderr.readline()
        assert line, said
        said += line
    submit.send_signal(signal.SIGINT)
    _, rest = submit.communicate(timeout=LIMIT)
    assert submit.returncode == 130
    assert (
        rest == "torc-supervise: workflow 1 is there; 'torc-supervise submit 1' goes on with submitting it\n"
    )
    desk.cluster.start_controller()
    assert desk.cluster.wait_for_end(desk.submit_one("1")) == "COMPLETED", "the workflow is free, and goes on"
