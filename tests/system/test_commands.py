"""The commands, their JSON shapes and exit codes, through the installed command line."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support.cli import COMMAND, Cli, only, statuses

TWO_JOBS = """
name: two
jobs:
  - {name: first, command: echo one; echo two >&2}
  - {name: second, command: "exit 3", depends_on: [first]}
  - {name: third, command: "true", depends_on: [second]}
"""
# Prints, and then waits until it is asked to end; saves by exiting 0.
WAITS = """
name: waits
jobs:
  - name: waiter
    command: trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done
    supports_termination: true
  - {name: after, command: "true", depends_on: [waiter]}
"""


@pytest.fixture
def finished(cli: Cli) -> Cli:
    cli.write("w.yaml", TWO_JOBS)
    assert cli.run("run", "w.yaml").code == 1
    return cli


def test_status_json_has_the_documented_shape(finished: Cli) -> None:
    status = finished.run("status", "-f", "json").json
    assert (status["workflow_id"], status["name"], status["run_id"], status["state"]) == (
        1,
        "two",
        1,
        "failed",
    )
    assert status["source"] == "snapshot"
    assert status["age_seconds"] >= 0
    assert {"host", "pid", "alive", "slurm_job_id", "end_time"} <= status["supervisor"].keys()
    assert status["supervisor"]["alive"] is False
    assert status["jobs_by_status"]["completed"] == 1
    assert status["jobs_by_status"]["failed"] == 1
    assert status["jobs_by_status"]["canceled"] == 1
    assert len(status["jobs_by_status"]) == 11
    job = status["jobs"][1]
    wanted = {"job_id", "name", "status", "attempt_id", "pid", "pgid", "start_time", "exec_time_seconds"}
    wanted |= {"return_code", "signal", "ended", "depends_on", "stdout", "stderr"}
    assert wanted <= job.keys()
    assert (job["return_code"], job["ended"], job["depends_on"]) == (3, "exited", ["first"])


def test_results_json_has_the_documented_shape(finished: Cli) -> None:
    items = finished.run("results", "1", "-f", "json").json["items"]
    assert [(row["job_name"], row["status"], row["return_code"]) for row in items] == [
        ("first", "completed", 0),
        ("second", "failed", 3),
    ]
    wanted = {"job_id", "run_id", "attempt_id", "signal", "ended", "exec_time_minutes", "completion_time"}
    wanted |= {"max_rss_bytes", "user_cpu_seconds", "system_cpu_seconds"}
    assert wanted <= items[0].keys()
    assert items[0]["completion_time"].endswith("Z")


def test_results_show_the_newest_run_only_unless_told_otherwise(finished: Cli) -> None:
    finished.run("reset-status", "1", "--failed-only")
    finished.run("run", "1")
    newest = finished.run("results", "1", "-f", "json").json["items"]
    assert [(row["job_name"], row["run_id"]) for row in newest] == [("second", 2)]
    everything = finished.run("results", "1", "--all-runs", "-f", "json").json["items"]
    assert [(row["job_name"], row["run_id"]) for row in everything] == [
        ("first", 1),
        ("second", 1),
        ("second", 2),
    ]


def test_list_json_has_the_documented_shape(finished: Cli) -> None:
    row = only(finished.run("list", "-f", "json").json["items"])
    assert {"workflow_id", "name", "user", "state", "run_id", "created", "jobs_by_status"} <= row.keys()


def test_the_format_counts_before_and_after_the_subcommand(finished: Cli) -> None:
    for command in (["status", "1"], ["jobs", "1"], ["results", "1"], ["list"]):
        before = finished.run("-f", "json", *command)
        after = finished.run(*command, "-f", "json")
        spelled = finished.run(*command, "--format=json")
        assert before.json.keys() == after.json.keys() == spelled.json.keys(), command
        between = finished.run("workflows", "-f", "json", *command)
        assert between.json.keys() == after.json.keys(), command
    assert finished.run("-f", "json", "workflows", "-f", "table", "list").out.startswith("id ")


def test_every_command_is_there_under_workflows_too(finished: Cli) -> None:
    for command in (
        ["status", "1"],
        ["results", "1"],
        ["list"],
        ["reinitialize", "1"],
        ["reset-status", "1"],
        ["validate", "w.yaml"],
        ["schema"],
    ):
        assert finished.run("workflows", *command, "-f", "json").json is not None


def test_logs_prints_both_streams_of_all_jobs_or_one(finished: Cli) -> None:
    everything = finished.run("logs", "1").out
    assert "==> first: stdout" in everything
    assert "two" in everything
    assert finished.run("logs", "1", "first", "--stdout").out == "one\n"
    assert finished.run("logs", "1", "1", "--stderr").out == "two\n"
    unknown = finished.run("logs", "1", "frist")
    assert unknown.code == 2
    assert "did you mean 'first'?" in unknown.err


def test_logs_follow_prints_until_the_job_is_over(cli: Cli) -> None:
    cli.write("w.yaml", WAITS)
    pipe = cli.stdout_pipe(1)
    supervisor = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    (cli.directory / "torc_output" / "job_stdio" / "job_wf1_j1_r1_a1.o").unlink()
    cli.wait_until_started(1)
    follower = cli.start("logs", "1", "waiter", "--follow", "--stderr")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.finish().code == 75
    assert follower.finish().code == 0


def test_status_is_live_while_the_supervisor_runs_and_a_second_one_is_refused(cli: Cli) -> None:
    cli.write("w.yaml", WAITS)
    pipe = cli.stdout_pipe(1)
    supervisor = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    cli.wait_until_live()
    live = cli.run("status", "1", "-f", "json", patient=True).json
    assert (live["source"], live["state"], live["supervisor"]["alive"]) == ("live", "running", True)
    assert live["supervisor"]["pid"] == supervisor.process.pid
    assert statuses(live) == {"waiter": "running", "after": "blocked"}
    assert live["jobs"][0]["pgid"] == live["jobs"][0]["pid"]

    for command in (["run", "1"], ["reinitialize", "1"], ["reset-status", "1"]):
        refused = cli.run(*command)
        assert refused.code == 2, command
        assert f"pid {supervisor.process.pid} on " in refused.err

    supervisor.signal(signal.SIGTERM)
    done = supervisor.finish()
    assert done.code == 75
    after = cli.run("status", "1", "-f", "json").json
    assert (after["source"], after["supervisor"]["alive"]) == ("snapshot", False)


def test_cancel_ends_what_runs_and_the_workflow_is_canceled(cli: Cli) -> None:
    cli.write("w.yaml", WAITS)
    pipe = cli.stdout_pipe(1)
    supervisor = cli.start("run", "w.yaml")
    pipe.wait_for("ready")
    cli.wait_until_live()
    asked = cli.run("cancel", "1", "-f", "json", patient=True).json
    assert asked == {
        "workflow_id": 1,
        "asked": True,
        "through": "control",
        "running": 1,
        "canceled_slurm_jobs": [],
    }
    assert supervisor.finish().code == 1
    assert "saved" in pipe.wait_for("saved")
    status = cli.run("status", "1", "-f", "json").json
    assert status["state"] == "canceled"
    assert statuses(status) == {"waiter": "canceled", "after": "canceled"}


def test_cancel_of_a_workflow_that_does_not_run_is_noted(cli: Cli) -> None:
    cli.write("w.yaml", TWO_JOBS)
    cli.run("run", "w.yaml")
    assert cli.run("cancel", "1").code == 0
    assert cli.run("status", "1", "-f", "json").json["state"] == "canceled"


def test_reinitialize_says_what_would_run_again_and_why(cli: Cli) -> None:
    cli.write("input.txt", "1")
    text = """
name: files
files:
  - {name: raw, path: input.txt}
  - {name: made, path: output.txt}
jobs:
  - {name: make, command: cp input.txt output.txt, input_files: [raw], output_files: [made]}
  - {name: use, command: cat output.txt, input_files: [made]}
  - {name: other, command: "true"}
"""
    cli.write("w.yaml", text)
    assert cli.run("run", "w.yaml").code == 0
    assert cli.run("reinitialize", "1", "--dry-run", "-f", "json").json["reset"] == []

    (cli.directory / "output.txt").unlink()
    reset = cli.run("reinitialize", "1", "--dry-run", "-f", "json").json["reset"]
    assert [(row["name"], row["reason"]) for row in reset] == [
        ("make", "its output 'made' (output.txt) is missing"),
        ("use", "depends on 'make', which runs again"),
    ]
    assert cli.events()[-1]["event"] == "run_ended"  # nothing was written

    cli.write("w.yaml", text.replace('"true"', "echo changed"))
    changed = cli.run("reinitialize", "1", "--spec", "w.yaml", "-f", "json").json
    assert ("other", "its command has changed") in [(row["name"], row["reason"]) for row in changed["reset"]]
    assert cli.run("run", "1").code == 0
    assert cli.run("logs", "1", "other").out == "changed\n"
    assert cli.run("results", "1", "-f", "json").json["items"][0]["run_id"] == 2


def test_missing_inputs_are_refused_before_anything_is_written(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        "name: w\nfiles: [{name: f, path: not/here}]\njobs: [{name: a, command: cat f, input_files: [f]}]\n",
    )
    refused = cli.run("run", "w.yaml")
    assert refused.code == 2
    assert "missing required input file: 'f' (not/here)" in refused.err
    assert not (cli.directory / "torc_output").exists()


def test_a_job_without_its_declared_output_fails(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        "name: w\nfiles: [{name: f, path: f.txt}]\njobs: [{name: a, command: ':', output_files: [f]}]\n",
    )
    assert cli.run("run", "w.yaml").code == 1
    row = only(cli.run("results", "-f", "json").json["items"])
    assert (row["status"], row["return_code"], row["missing_outputs"]) == ("failed", 1, ["f"])


def test_a_bad_file_names_every_mistake_and_nothing_is_written(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        "name: w\njobs:\n  - name: preprocess\n    command: 'true'\n"
        "  - name: train\n    comand: x\n    depends_on: [preproces]\n",
    )
    for command in ("run", "validate"):
        done = cli.run(command, "w.yaml")
        assert done.code == 2
        assert "w.yaml:6:5: jobs[1].comand: unknown key 'comand'; did you mean 'command'?" in done.err
        assert (
            "w.yaml:7:18: jobs[1].depends_on[0]: no job named 'preproces'; did you mean 'preprocess'?"
            in done.err
        )
        assert "Traceback" not in done.err
    assert [path.name for path in cli.directory.iterdir()] == ["w.yaml"]


def test_a_workflow_from_stdin_runs(cli: Cli) -> None:
    done = cli.run("run", "-", stdin=json.dumps({"name": "j", "jobs": [{"name": "a", "command": "echo hi"}]}))
    assert done.code == 0, done.err
    assert cli.run("logs", "1", "a").out == "hi\n"


def test_validate_prints_the_plan_and_runs_nothing(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: 's{i:03d}', command: 'echo {i}', parameters: {i: 1:4}}]\n")
    done = cli.run("validate", "w.yaml")
    assert done.code == 0
    assert "4 jobs (from 1 in the file)" in done.out
    summary = cli.run("validate", "w.yaml", "-f", "json").json["summary"]
    assert summary["job_names"] == ["s001", "s002", "s003", "s004"]
    assert not (cli.directory / "torc_output").exists()


def test_schema_is_a_json_schema(cli: Cli) -> None:
    schema = cli.run("schema").json
    assert "2020-12" in schema["$schema"]
    assert "jobs" in schema["properties"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "nofile.yaml"],
        ["run", "17"],
        ["status", "17"],
        ["status", "x"],
        ["status", "-f", "xml"],
        ["run", "w.yaml", "--time-limit", "soon"],
        ["run", "w.yaml", "--max-parallel-jobs", "0"],
        ["run", "/"],
        ["run", "w.yaml", "-o", "/dev/null/x"],
    ],
)
def test_bad_usage_leaves_with_2_and_a_message(cli: Cli, arguments: list[str]) -> None:
    cli.write("w.yaml", TWO_JOBS)
    done = cli.run(*arguments)
    assert done.code == 2
    assert done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err


def test_help_has_an_example_for_every_command(cli: Cli) -> None:
    top = cli.run("--help").out
    for command in (
        "run",
        "status",
        "list",
        "jobs",
        "results",
        "logs",
        "reinitialize",
        "cancel",
        "validate",
        "schema",
    ):
        assert command in top
        assert f"Example: torc-supervise {command}" in " ".join(cli.run(command, "--help").out.split())


def test_a_damaged_journal_is_named_by_line_and_byte(finished: Cli) -> None:
    path = finished.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + b"".join(lines[2:]))
    done = finished.run("run", "1")
    assert done.code == 70
    assert f"line 2 (byte {len(lines[0])})" in done.err


def test_a_torn_last_line_needs_nothing(finished: Cli) -> None:
    path = finished.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"t":"2026-01-01T00:0')
    finished.run("reset-status", "1", "--failed-only")
    assert finished.run("run", "1").code == 1
    assert [event["seq"] for event in finished.events()] == list(range(1, len(finished.events()) + 1))


def test_status_imports_nothing_heavy(finished: Cli) -> None:
    """The budget of the path that people and scripts take all the time."""
    program = (
        "import sys, os; sys.argv = ['torc-supervise', 'status', '1', '-f', 'json']; sys.path_importer_cache.clear()\n"
        "from torc_supervise_cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    import subprocess

    done = subprocess.run(
        [COMMAND[0], "-c", program], cwd=finished.directory, capture_output=True, text=True, check=True
    )
    heavy = {"typer", "click", "rich", "pydantic", "ruamel", "psutil", "multiprocessing", "asyncio"}
    assert not heavy & set(eval(done.stderr))


def test_the_short_way_of_status_and_typer_agree(finished: Cli) -> None:
    short = finished.run("status", "1", "-f", "json").json
    long = finished.run("status", "-f", "json", "-o", "torc_output", "--", "1").json
    assert short.keys() == long.keys()


def test_nothing_is_said_while_it_works_where_nobody_watches(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: ':'}]\n")
    said = cli.run("run", "w.yaml").err.splitlines()
    # A disk that takes more than five seconds is told of.
    said = [line for line in said if "is the disk slow or full?" not in line]
    assert said == ["torc-supervise: workflow 1 'w': 1 job"]


def test_python_m_and_the_console_script_are_the_same_program(cli: Cli) -> None:
    import subprocess

    script = Path(sys.executable).parent / "torc-supervise"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == cli.run("--version").out


def test_stdio_files_go_where_the_modes_say(cli: Cli) -> None:
    jobs = "\n".join(
        f"  - {{name: {mode}, command: echo out; echo err >&2, stdio: {{mode: {mode}}}}}"
        for mode in ("separate", "combined", "no_stdout", "no_stderr", "none")
    )
    cli.write(
        "w.yaml",
        f"name: w\njobs:\n{jobs}\n  - {{name: gone, command: echo x, stdio: {{delete_on_success: true}}}}\n",
    )
    assert cli.run("run", "w.yaml").code == 0
    files = {path.name: path.read_text() for path in (cli.directory / "torc_output" / "job_stdio").iterdir()}
    assert files == {
        "job_wf1_j1_r1_a1.o": "out\n",
        "job_wf1_j1_r1_a1.e": "err\n",
        "job_wf1_j2_r1_a1.log": "out\nerr\n",
        "job_wf1_j3_r1_a1.e": "err\n",
        "job_wf1_j4_r1_a1.o": "out\n",
    }


def test_the_journal_with_its_environments_is_for_its_owner_alone(finished: Cli) -> None:
    path = finished.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600


def test_run_of_a_completed_workflow_says_that_its_inputs_have_changed(cli: Cli) -> None:
    import os

    path = cli.directory / "raw.txt"
    path.write_text("1")
    cli.write(
        "w.yaml",
        "name: w\nfiles: [{name: raw, path: raw.txt}]\njobs: [{name: a, command: ':', input_files: [raw]}]\n",
    )
    assert cli.run("run", "w.yaml").code == 0
    idle = cli.run("run", "1")
    assert idle.code == 0
    assert "nothing of workflow 1 is left to run" in idle.err
    os.utime(path, (1, 1))
    changed = cli.run("run", "1")
    assert "a: its input 'raw' (raw.txt) has changed" in changed.err
    assert "torc-supervise reinitialize 1" in changed.err


def test_run_from_another_directory_is_refused_with_the_way_out(finished: Cli) -> None:
    elsewhere = finished.directory / "elsewhere"
    elsewhere.mkdir()
    refused = Cli(elsewhere).run("run", "1", "-o", "../torc_output")
    assert refused.code == 2
    assert f"cd {finished.directory}" in refused.err
    assert Cli(elsewhere).run("run", "1", "-o", "../torc_output", "--force").code == 1


@pytest.mark.parametrize(
    "arguments", [("run", "w.json"), ("status",), ("list",), ("validate", "w.json")], ids=" ".join
)
def test_a_directory_whose_name_is_no_text(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Everything we write and say has such paths in it, as text."""
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    directory.mkdir()
    cli = Cli(directory)
    cli.write("w.json", json.dumps({"name": "w", "jobs": [{"name": "one", "command": "true"}]}))
    done = cli.run(*arguments)
    if arguments[0] in ("run", "status"):
        assert done.code == 2
        assert "caf\\xe9/torc_output is not UTF-8 (byte " in done.err
        assert not (directory / "torc_output").exists()
    else:
        assert done.code == 0
    cli.close()
