"""Every example runs as its README says."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support.cli import Cli


def change(cli: Cli, changes: dict[str, str]) -> None:
    """Change the example's workflow file, so that it works on until it is stopped, and has the time to save.

    Its own times are for people who watch, a few seconds: a busy machine may need them from one line to the next.
    """
    text = (cli.directory / "workflow.yaml").read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    cli.write("workflow.yaml", text)


def test_quickstart_runs_to_its_end(example: Callable[[str], Cli]) -> None:
    cli = example("quickstart")
    done = cli.run("run", "workflow.yaml", "--max-parallel-jobs", "2")
    assert done.code == 0, done.err
    assert "workflow 1 completed: 3 completed" in done.out


def test_the_sweep_runs_every_combination_and_collects_them(example: Callable[[str], Cli]) -> None:
    cli = example("sweep")
    done = cli.run("run", "workflow.yaml", "--num-cpus", "4")
    assert done.code == 0, done.err
    names = [row["job_name"] for row in cli.run("results", "1", "-f", "json").json["items"]]
    assert len(names) == 13
    assert names[-1] == "collect"


def test_a_bash_trap_saves_and_the_next_run_resumes(example: Callable[[str], Cli]) -> None:
    cli = example("bash_trap")
    change(
        cli, {"--steps 30": "--steps $(cat steps)", "sigterm_lead_seconds: 3": "sigterm_lead_seconds: 100"}
    )
    cli.write("steps", "1000000\n")
    pipe = cli.stdout_pipe(job_id=1)
    supervisor = cli.start("run", "workflow.yaml")
    pipe.wait_for("step")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.finish().code == 75
    cli.write("steps", "30\n")
    resumed = cli.run("run", "1")
    assert resumed.code == 0, resumed.err
    assert "resum" in cli.run("logs", "1", "1").out


def test_wrapper_shells_die_at_once_and_python_still_saves(example: Callable[[str], Cli]) -> None:
    cli = example("wrapper_shell")
    change(
        cli,
        {
            "--save-seconds 2": "--save-seconds 2 --steps 1000000",
            "sigterm_lead_seconds: 5": "sigterm_lead_seconds: 100",
        },
    )
    # One pipe is enough as a signal: the four jobs start together and print the same first line.
    pipes = [cli.stdout_pipe(job_id) for job_id in (1, 4)]
    supervisor = cli.start("run", "workflow.yaml", "--max-parallel-jobs", "4")
    for pipe in pipes:
        pipe.wait_for("step")
    for name in ("into_tee", "into_lasting_tee"):
        path = cli.directory / "output" / f"{name}.log"
        while not (path.exists() and path.stat().st_size):
            pipes[0].wait_for("\n")  # a step later
    supervisor.signal(signal.SIGTERM)
    assert supervisor.finish().code == 75
    rows = {row["name"]: row for row in cli.run("jobs", "1", "-f", "json").json["items"]}
    assert {row["status"] for row in rows.values()} == {"terminated"}
    assert {row["checkpoint_saved"] for row in rows.values()} == {True}
    assert rows["then_echo"]["return_code"] == 143  # the shell's own end; its child went on saving
    assert rows["replaced"]["return_code"] == 0


def test_all_examples_are_valid(example: Callable[[str], Cli]) -> None:
    cli = example(".")
    files = sorted(cli.directory.glob("*/workflow.yaml"))
    assert len(files) == 5
    for file in files:
        assert cli.run("validate", str(file)).code == 0
