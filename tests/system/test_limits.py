"""Time limits through the command line: what is refused, what stays ready, what is asked when."""

from __future__ import annotations

from support.cli import Cli, only, statuses

HOURS = "resource_requirements: {num_cpus: 1, memory: 1m, runtime: PT2H}"


def test_a_job_that_cannot_save_and_needs_longer_than_the_whole_run_is_refused(cli: Cli) -> None:
    cli.write("w.yaml", f"name: w\njobs: [{{name: long, command: 'true', {HOURS}}}]\n")
    refused = cli.run("run", "w.yaml", "--time-limit", "10m")
    assert refused.code == 2
    assert "job 'long' needs 7200 s and cannot save its work; this run has 600 s in all" in refused.err
    assert not (cli.directory / "torc_output").exists()


def test_a_job_that_saves_may_need_longer_than_the_run(cli: Cli) -> None:
    cli.write(
        "w.yaml", f"name: w\njobs: [{{name: long, command: 'true', supports_termination: true, {HOURS}}}]\n"
    )
    assert cli.run("run", "w.yaml", "--time-limit", "10m").code == 0


def test_a_job_for_which_too_little_time_is_left_stays_ready_and_is_named(cli: Cli) -> None:
    # The second one needs all of the run, and the first one has to come before it.
    cli.write(
        "w.yaml",
        "name: w\njobs:\n  - {name: first, command: 'true'}\n  - name: second\n    command: 'true'\n"
        "    depends_on: [first]\n    resource_requirements: {num_cpus: 1, memory: 1m, runtime: PT10M}\n",
    )
    done = cli.run("run", "w.yaml", "--time-limit", "10m")
    assert done.code == 75
    assert "warning: not enough time was left to start 1 job: 'second'" in done.err
    status = cli.run("status", "1", "-f", "json").json
    assert statuses(status) == {"first": "completed", "second": "ready"}
    assert only(w["code"] for w in status["warnings"]) == "not_enough_time"
    assert cli.run("run", "1").code == 0


def test_a_job_that_has_completed_needs_no_room_on_resumption(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        "name: w\njobs:\n  - name: wide\n    command: 'true'\n    resource_requirements: {num_cpus: 4, memory: 1m}\n"
        "  - {name: fails, command: test -e there, depends_on: [wide]}\n",
    )
    assert cli.run("run", "w.yaml", "--num-cpus", "4").code == 1
    cli.write("there", "")
    cli.run("reset-status", "1", "--failed-only")
    assert cli.run("run", "1", "--num-cpus", "1").code == 0
