"""sync-status without Slurm: a supervisor and its keeper that were killed together on this host."""

from __future__ import annotations

import signal

import pytest

from support import waiting
from support.cli import Cli, Started, only, statuses

LONG = "name: long\njobs:\n  - {name: waiter, command: echo ready; exec sleep 1000}\n"


BOTH = """
name: both
jobs:
  - {name: deaf, command: echo ready; exec sleep 1000}
  - {name: saves, command: echo ready; exec sleep 1000, supports_termination: true}
"""
COMMAND = """
name: command
jobs: [{name: waits, command: 'true'}]
actions:
  - trigger_type: on_workflow_start
    action_type: run_commands
    commands: ['sleep 1000 & : >begun; while :; do wait; done']
"""
"""Two processes from the moment on in which the file is there, and none that ends or begins later."""


def kill_all_of_it(cli: Cli) -> None:
    """Run a workflow, and kill everything of it at once."""
    cli.write("w.yaml", LONG)
    pipe = cli.stdout_pipe(1)
    started = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    waiting.wait_until(lambda: len(starts(cli)) == 1, "not recorded")
    started.kill_together(waiting.children_of(started.process.pid))


def starts(cli: Cli) -> list[int]:
    return [e["job_id"] for e in cli.events() if e["event"] == "job_started"]


def helpers_of(started: Started) -> list[int]:
    """Children of the supervisor that are no jobs: they have its command line."""
    own = waiting.command_line(started.process.pid)
    return [pid for pid in waiting.children_of(started.process.pid) if waiting.command_line(pid) == own]


def test_jobs_of_a_supervisor_that_was_killed_with_its_keeper_are_lost(cli: Cli) -> None:
    kill_all_of_it(cli)
    assert "torc-supervise sync-status 1 records what was lost" in cli.run("status", "1").out
    would = cli.run("sync-status", "1", "--dry-run")
    assert "run 1, whose supervisor is gone, would be ended" in would.out
    assert "1 job would be recorded as lost" in would.out
    assert [e for e in cli.events() if e["event"] == "job_ended"] == []
    done = cli.run("workflows", "sync-status", "1", "-f", "json").json
    assert (done["running_jobs_failed"], done["slurm_jobs_failed"]) == (1, 0)
    assert only(done["failed_job_details"])["job_name"] == "waiter"
    result = only(cli.run("results", "1", "-f", "json").json["items"])
    assert (result["status"], result["ended"]) == ("terminated", "lost")
    assert "nothing has vanished" in cli.run("sync-status", "1").out
    cli.run("reinitialize", "1")
    assert statuses(cli.run("status", "1", "-f", "json").json) == {"waiter": "ready"}


def test_jobs_that_outlived_their_supervisor_are_said_to_have_ended_as_they_did(cli: Cli) -> None:
    cli.write("w.yaml", BOTH)
    pipes = [cli.stdout_pipe(1), cli.stdout_pipe(2)]
    started = cli.start("run", "w.yaml")
    for pipe in pipes:
        pipe.wait_for("ready")
    waiting.wait_until(lambda: len(starts(cli)) == 2, "not recorded")
    started.kill_together(helpers_of(started))
    assert "2 jobs would be recorded as lost" in cli.run("sync-status", "1", "--dry-run").out
    done = cli.run("sync-status", "1")
    assert done.out.startswith("run 1, whose supervisor is gone, was ended\n2 jobs recorded as terminated:\n")
    assert [line.split()[:3] for line in done.out.splitlines()[3:5]] == [
        ["1", "deaf", "killed"],
        ["2", "saves", "in_grace"],
    ]
    told = [line.removeprefix("torc-supervise: ") for line in done.err.splitlines()[1:]]
    assert told == [
        "the supervisor is gone: ending its 2 jobs",
        "run 1, whose supervisor is gone, is ended; 2 jobs ran: 1 in grace, 1 killed",
    ]
    reasons = {row["reason"] for row in cli.run("reinitialize", "1", "-f", "json").json["reset"]}
    assert reasons == {"its supervisor was lost, and it was ended"}


@pytest.mark.parametrize("on_record", [True, False], ids=["on record", "not on record yet"])
def test_a_run_that_was_ended_is_said_to_be_where_no_job_ran(cli: Cli, on_record: bool) -> None:
    cli.write("w.yaml", COMMAND)
    started = cli.start("run", "w.yaml")
    waiting.wait_until((cli.directory / "torc_output" / "begun").exists, "the command has not begun")
    waiting.wait_until(lambda: any(e["event"] == "run_started" for e in cli.events()), "not recorded")
    started.kill_together(helpers_of(started))
    if not on_record:  # as if they had been killed a moment earlier
        journal = cli.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
        journal.write_bytes(journal.read_bytes().partition(b"\n")[0] + b"\n")
    done = cli.run("sync-status", "1")
    assert done.out == "run 1, whose supervisor is gone, was ended\n"
    assert "2 processes of the run were in no job's group and were killed" in done.err
    assert "run 1, whose supervisor is gone, is ended; no job ran" in done.err
    assert cli.run("sync-status", "1").out == "nothing has vanished\n"


def test_a_workflow_that_runs_is_left_alone(cli: Cli) -> None:
    cli.write("w.yaml", LONG)
    pipe = cli.stdout_pipe(1)
    started = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    done = cli.run("sync-status", "1", "-f", "json").json
    assert f"pid {started.process.pid} on " in done["in_use"]
    assert "failed_job_details" not in done
    started.signal(signal.SIGTERM)
    assert started.finish().code == 75


def test_there_is_no_batch_output_without_an_allocation(cli: Cli) -> None:
    cli.write("w.yaml", "name: short\njobs:\n  - {name: a, command: 'true'}\n")
    cli.run("run", "w.yaml")
    done = cli.run("logs", "1", "--batch")
    assert (done.code, done.out) == (2, "")
    assert "no allocation is on record" in done.err
