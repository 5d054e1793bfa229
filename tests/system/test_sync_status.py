"""sync-status without Slurm: a supervisor and its keeper that were killed together on this host."""

from __future__ import annotations

import os
import signal

from support import waiting
from support.cli import Cli, only, statuses

LONG = "name: long\njobs:\n  - {name: waiter, command: echo ready; exec sleep 1000}\n"


def kill_all_of_it(cli: Cli) -> None:
    """Run a workflow, and kill everything of it at once."""
    cli.write("w.yaml", LONG)
    pipe = cli.stdout_pipe(1)
    started = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    waiting.wait_until(lambda: any(e["event"] == "job_started" for e in cli.events()), "not recorded")
    family = [started.process.pid, *waiting.children_of(started.process.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)  # so that none can react to the end of another
    waiting.kill_all(family)
    for pid in family:
        waiting.wait_for_end(pid)
    started.finish()


def test_jobs_of_a_supervisor_that_was_killed_with_its_keeper_are_lost(cli: Cli) -> None:
    kill_all_of_it(cli)
    assert "torc-supervise sync-status 1 records what was lost" in cli.run("status", "1").out
    would = cli.run("sync-status", "1", "--dry-run")
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
