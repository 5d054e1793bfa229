"""From the outside: this process is on the login host, supervisors are on nodes with host names of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import waiting
from support.cli import Cli, statuses
from support.cluster import Cluster
from support.supervised import HOLD, SLEEPS, Bench, Journal, child, job, say, workflow_of
from torc_supervise import look_up
from torc_supervise.machine.records import AllocationSubmitted
from torc_supervise.operations.opened import create_workflow, open_workflow
from torc_supervise.operations.reinitialize import first_record
from torc_supervise.store import layout
from torc_supervise.workflow.model import Job

HURRIED = (
    "import torc_supervise.operations.liveness as x; x.RELEASE_LIMIT = 5.0; "
    "import torc_supervise.helpers.outside as y; y.LOOK_EVERY = 1.0; "
    "from torc_supervise_cli.main import main; main()"
)
"""A supervisor with limits that suit a test; of its decisions nothing is changed."""


class Outside:
    """One workflow in one directory that login host and nodes share."""

    def __init__(self, cluster: Cluster, bench: Bench) -> None:
        self.cluster = cluster
        self.bench = bench
        self.cli = Cli(bench.directory)

    def create(self, *jobs: Job, grace: float | None = None) -> None:
        workflow = workflow_of(*jobs, grace=grace)
        with create_workflow("torc_output", lambda new: first_record(workflow, new), "submit", print):
            pass

    def submit(self, *options: str, before: str = "", hurried: bool = False) -> str:
        """As submit does: queue a batch job that execs the supervisor, and put it on record."""
        program = f"-c '{HURRIED}'" if hurried else "-m torc_supervise_cli"
        script = f"export BENCH={self.bench.directory}\n{before}\nexec {sys.executable} {program} run 1"
        output = [f"--{name}=torc_output/slurm_output_wf1_sl%j.{name[0]}" for name in ("output", "error")]
        job_id = self.cluster.sbatch(script, "--hold", *output, *options, cwd=self.bench.directory)
        self.record(job_id)
        self.cluster.scontrol("release", job_id)
        return job_id

    def record(self, job_id: str, **fields: Any) -> None:
        with open_workflow(layout.find("torc_output", 1), "submit", print) as opened:
            opened.append(AllocationSubmitted(job_id, "submit", **fields))
            opened.write_snapshot()

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self.cli.run(*arguments, env=self.cluster.environment)
        assert done.code == code, (done.out, done.err)
        return done.out + done.err

    def json(self, *arguments: str) -> Any:
        done = self.cli.run(*arguments, "-f", "json", env=self.cluster.environment)
        assert done.code == 0, (done.out, done.err)
        return done.json

    def status(self) -> Any:
        """Of a Slurm that answers: on a busy machine it may not do so within the bound of ``status``."""
        head: Any = None

        def answered() -> bool:
            nonlocal head
            head = self.json("status", "1")
            return head.get("slurm", "answered") == "answered"

        self.cluster.wait(answered, "Slurm does not answer in time")
        return head

    def wait_to_read(self, text: str) -> str:
        """What ``status`` prints, once it holds this text."""
        said = ""

        def reads() -> bool:
            nonlocal said
            said = self.run("status", "1")
            return text in said

        self.cluster.wait(reads, lambda: f"no {text!r} in {said}")
        return said

    def journal(self) -> Journal:
        return Journal(self.bench.output / "workflows" / "1" / "events.jsonl")

    def batch(self, job_id: str) -> str:
        return (self.bench.output / f"slurm_output_wf1_sl{job_id}.e").read_text()

    def wait_for(self, event: str, **fields: Any) -> None:
        path = self.bench.output / "workflows" / "1" / "events.jsonl"
        self.cluster.wait(lambda: Journal(path, live=True).of(event, **fields), f"no {event} {fields}")

    def wait_until_running(self) -> None:
        """Until a job has said that it is ready, and all who read know of it and of its supervisor.

        The snapshot, which alone is read on another host, is written after the journal.  Until then it is that of the
        submission, in which nobody runs anything: a cancel would go to the allocation, and a supervisor that is killed
        in between would never have been there.
        """
        self.bench.said.expect(starting_with="ready")
        self.wait_for("job_started")
        self.cluster.wait(
            lambda: look_up("torc_output", 1, with_jobs=False).head["jobs_by_status"]["running"],
            "the snapshot does not say that it runs",
        )

    def wait_for_end(self, job_id: str) -> None:
        """Until the allocation is over and nothing of it is left: a keeper may write a moment longer than it lasts."""
        self.cluster.wait_for_end(job_id)
        self.cluster.wait(lambda: not self.cluster.leftovers(), "processes are left on the nodes")


@pytest.fixture
def outside(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    monkeypatch.chdir(tmp_path)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    bench = Bench(tmp_path)
    yield Outside(cluster, bench)
    bench.close()


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


# -- status ---------------------------------------------------------------------------------------------------


def test_status_from_the_login_host_says_queued_running_and_over(outside: Outside) -> None:
    cluster = outside.cluster
    outside.create(job("long", SLEEPS))
    job_id = outside.submit("--begin=now+1hour")
    # Slurm gives its reason when it has looked at the job the first time.
    cluster.wait(lambda: only(outside.status()["allocations"])["reason"] == "BeginTime", "no reason")
    head = outside.status()
    row = only(head["allocations"])
    assert (row["slurm_job_id"], row["state"], row["slurm_state"]) == (job_id, "queued", "PENDING")
    assert (row["reason"], head["state"], head["slurm"]) == ("BeginTime", "ready", "answered")
    said = outside.wait_to_read(f"allocation  {job_id} queued (BeginTime) since ")
    assert "to go on" not in said, "it goes on by itself"

    cluster.scontrol("update", f"jobid={job_id}", "starttime=now")
    cluster.wait_until(job_id, "RUNNING")
    outside.wait_until_running()
    head = outside.status()
    row, supervisor = only(head["allocations"]), head["supervisor"]
    assert (head["source"], head["state"]) == ("snapshot", "running")
    assert (row["state"], row["slurm_state"], row["nodes"]) == ("running", "RUNNING", supervisor["host"])
    assert row["end_time"] > row["start_time"] > "2"
    assert (supervisor["alive"], supervisor["slurm_state"]) == (True, "RUNNING")
    outside.wait_to_read(f"allocation  {job_id} running since ")

    cluster.scancel(job_id)
    outside.wait_for_end(job_id)
    head = outside.status()
    assert (head["state"], statuses(head)) == ("terminated", {"long": "terminated"})
    assert (only(head["allocations"])["state"], head["supervisor"]["alive"]) == ("ended", False)
    outside.wait_to_read("to go on:   torc-supervise submit 1")
    assert f"allocation {job_id}" in outside.run("logs", "1", "--batch"), "it says who printed what"


def test_status_of_an_allocation_that_slurm_does_not_know(outside: Outside) -> None:
    outside.create(job("long", SLEEPS))
    outside.record("987654")
    row = only(outside.status()["allocations"])
    assert (row["state"], row["slurm_state"]) == ("gone", None)
    done = outside.json("sync-status", "1", "--dry-run")
    assert (done["pending_allocations_cleaned"], done["running_jobs_failed"]) == (1, 0)
    assert "failed_job_details" not in done
    assert outside.journal().of("allocation_ended") == []
    outside.run("sync-status", "1")
    assert only(outside.journal().of("allocation_ended"))["how"] == "gone"
    assert "nothing has vanished" in outside.run("sync-status", "1")


def test_without_a_controller_status_answers_all_the_same_and_nobody_decides_anything(
    outside: Outside,
) -> None:
    outside.create(job("long", SLEEPS))
    job_id = outside.submit(hurried=True)
    outside.wait_until_running()
    outside.cluster.stop_controller()
    head = outside.json("status", "1")
    assert head["supervisor"]["alive"]
    assert head["slurm"] != "answered"
    assert "Slurm did not answer" in outside.run("status", "1")
    assert "nobody knows what became of Slurm job" in outside.run("sync-status", "1", code=2)
    assert "and nobody knows whether it lives" in outside.run("reinitialize", "1", code=2)
    # A cancel still reaches it: the supervisor looks for requests by itself.
    assert outside.json("cancel", "1")["through"] == "file"
    outside.wait_for("run_ended", state="canceled")
    assert outside.journal().results()["long"]["status"] == "canceled"
    outside.cluster.start_controller()
    outside.cluster.wait_for_end(job_id)


# -- cancel ---------------------------------------------------------------------------------------------------


def test_cancel_from_the_login_host_ends_running_jobs_as_canceled(outside: Outside) -> None:
    outside.create(job("saves", child("saver.py", "checkpoint", "-")), job("waits", "true", after=("saves",)))
    job_id = outside.submit()
    outside.wait_until_running()
    done = outside.json("cancel", "1")
    assert (done["asked"], done["through"], done["canceled_slurm_jobs"]) == (True, "slurm", [])
    outside.wait_for_end(job_id)
    result = outside.journal().results()["saves"]
    assert (result["status"], result["why"], result["ended"]) == ("canceled", "cancel", "in_grace")
    assert outside.journal().of("signal_received") == [], "nothing was ended by a signal"
    head = outside.status()
    assert (head["state"], statuses(head)) == ("canceled", {"saves": "canceled", "waits": "canceled"})
    assert (outside.bench.directory / "checkpoint").exists()
    assert not os.path.exists(layout.find("torc_output", 1).cancel_request)


def test_cancel_takes_back_what_is_queued(outside: Outside) -> None:
    outside.create(job("long", SLEEPS))
    job_id = outside.submit("--begin=now+1hour")
    done = outside.json("cancel", "1")
    assert (done["asked"], done["canceled_slurm_jobs"]) == (False, [job_id])
    assert outside.cluster.state(job_id) == "CANCELLED"
    head = outside.status()
    assert (head["state"], only(head["allocations"])["state"]) == ("canceled", "canceled")


def test_cancel_takes_back_the_queued_ones_and_ends_the_running_one(outside: Outside) -> None:
    outside.create(job("long", SLEEPS))
    queued = outside.submit("--begin=now+1hour")
    running = outside.submit()
    outside.wait_until_running()
    assert outside.json("cancel", "1")["canceled_slurm_jobs"] == [queued]
    outside.wait_for_end(running)
    ended = only(outside.journal().of("allocation_ended"))
    assert (ended["slurm_job_id"], ended["how"]) == (queued, "canceled")
    assert outside.journal().results()["long"]["status"] == "canceled"


def test_a_cancel_of_an_allocation_whose_supervisor_is_about_to_start(outside: Outside) -> None:
    gate = outside.bench.gate("gate")
    outside.create(job("long", SLEEPS))
    job_id = outside.submit(before="echo begins >$BENCH/said; read -r _ <$BENCH/gate")
    outside.bench.said.expect(starting_with="begins")
    done = outside.json("cancel", "1")
    assert (done["through"], done["canceled_slurm_jobs"]) == ("slurm", [job_id])
    gate.put(b"x\n")
    outside.wait_for_end(job_id)
    head = outside.status()
    assert (head["state"], head["jobs_by_status"]["running"]) == ("canceled", 0)


def long_job_to_requeue(outside: Outside) -> tuple[str, str]:
    """It is over at once when it runs again; returns the allocation's id and the node that it runs on."""
    outside.create(job("long", f"{HOLD} {say('ready $$')} [ -e second ] || exec sleep 1000; exit 0"))
    job_id = outside.submit("--requeue", hurried=True)
    outside.wait_until_running()
    return job_id, outside.cluster.job(job_id)["BatchHost"]


def test_a_cancel_before_slurm_knows_that_the_node_is_down_holds_for_the_requeued_job(
    outside: Outside,
) -> None:
    cluster = outside.cluster
    job_id, first = long_job_to_requeue(outside)
    (outside.bench.directory / "second").touch()
    cluster.crash(first)
    assert outside.json("cancel", "1")["asked"]
    cluster.wait_for_node(first, "DOWN")
    outside.wait_for("workflow_canceled")
    cluster.wait_for_end(job_id)
    assert "workflow 1 was canceled: nothing is to be run" in outside.batch(job_id)
    assert len(outside.journal().of("run_started")) == 1
    assert (outside.status()["state"], cluster.state(job_id)) == ("canceled", "COMPLETED")


# -- what vanished --------------------------------------------------------------------------------------------


def test_jobs_of_an_allocation_that_vanished_are_lost_and_ready_afterwards(outside: Outside) -> None:
    """Everything of it is killed at once: neither the supervisor nor its keeper can say a word."""
    outside.create(job("long", SLEEPS))
    job_id = outside.submit()
    outside.wait_until_running()
    assert "the workflow belongs to" in outside.run("sync-status", "1")
    ours = [x.pid for x in outside.cluster.leftovers() if x.name() not in ("slurmstepd", "slurmd")]
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)  # so that none can react to the end of another
    waiting.kill_all(ours)
    outside.wait_for_end(job_id)
    head = outside.status()
    assert (head["state"], head["supervisor"]["alive"]) == ("terminated", False)
    outside.wait_to_read("torc-supervise sync-status 1 records what was lost")
    assert only(outside.json("sync-status", "1", "--dry-run")["failed_job_details"])["job_name"] == "long"
    assert outside.journal().of("job_ended") == []
    done = outside.json("sync-status", "1")
    assert (done["slurm_jobs_failed"], only(done["failed_job_details"])["slurm_job_id"]) == (1, job_id)
    result = outside.journal().results()["long"]
    assert (result["status"], result["ended"]) == ("terminated", "lost")
    outside.run("reinitialize", "1")
    assert statuses(outside.status()) == {"long": "ready"}


def test_a_supervisor_cut_off_by_a_node_failure_stops_when_the_requeued_one_takes_over(
    outside: Outside,
) -> None:
    """slurmd alone dies: Slurm believes the node to be down, while everything on it runs on."""
    cluster = outside.cluster
    job_id, first = long_job_to_requeue(outside)
    old = [x for x in cluster.leftovers(first) if "torc_supervise" in " ".join(x.cmdline())]
    assert old, "the supervisor and its keeper"
    slurmd = only_slurmd(cluster, first)
    os.kill(slurmd, signal.SIGKILL)
    (outside.bench.directory / "second").touch()
    cluster.wait_for_node(first, "DOWN")
    outside.wait_for("run_ended", run_id=2)
    cluster.wait_for_end(job_id)
    journal = outside.journal()  # which fails where two writers have been at it
    hosts = [entry["host"] for entry in journal.of("run_started")]
    assert hosts[0] == first != hosts[1]
    ends = [(e["run_id"], e["status"], e["ended"]) for e in journal.of("job_ended")]
    assert ends == [(1, "terminated", "lost"), (2, "completed", "exited")]
    for process in old:
        cluster.wait(lambda p=process: waiting.state_of(p.pid) in ("Z", None), "the old one runs on")
    said = outside.batch(job_id)
    assert "from before this allocation was requeued, and whose node does not answer: waiting" in said
    outside.bench.held.wait()


def only_slurmd(cluster: Cluster, node: str) -> int:
    import psutil

    children = psutil.Process(cluster.keeper).children()
    return next(x.pid for x in children if x.name() == "slurmd" and node in x.cmdline())
