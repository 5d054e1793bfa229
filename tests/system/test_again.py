"""What has to run again: changed files, another directory, changed specifications, and looking without touching."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from support.cli import Cli

FILES = """
name: files
files:
  - {name: raw, path: input.txt}
  - {name: made, path: output.txt}
jobs:
  - {name: make, command: cp input.txt output.txt, input_files: [raw], output_files: [made]}
  - {name: use, command: cat output.txt, input_files: [made]}
  - {name: after, command: "true", depends_on: [use]}
"""


def would_run(cli: Cli) -> list[tuple[str, str]]:
    reset = cli.run("reinitialize", "1", "--dry-run", "-f", "json").json["reset"]
    return [(row["name"], row["reason"]) for row in reset]


def change(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(before, before + 10**9))


def everything_below(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in directory.rglob("*"):
        about = path.stat()
        found[str(path)] = (about.st_ino, about.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def test_a_changed_intermediate_file_resets_who_reads_it_and_not_who_makes_it(cli: Cli) -> None:
    cli.write("input.txt", "1")
    cli.write("w.yaml", FILES)
    assert cli.run("run", "w.yaml").code == 0
    assert would_run(cli) == [], "what its producer wrote is no change"

    change(cli.directory / "output.txt")
    assert would_run(cli) == [
        ("use", "its input 'made' (output.txt) has changed"),
        ("after", "depends on 'use', which runs again"),
    ]
    assert cli.run("reinitialize", "1").code == 0
    assert cli.run("run", "1").code == 0
    assert would_run(cli) == [], "it was taken note of"

    change(cli.directory / "output.txt")
    change(cli.directory / "input.txt")
    assert would_run(cli) == [
        ("make", "its input 'raw' (input.txt) has changed"),
        ("use", "depends on 'make', which runs again"),
        ("after", "depends on 'use', which runs again"),
    ]
    cli.run("reinitialize", "1")
    assert cli.run("run", "1").code == 0
    assert would_run(cli) == [], "rewritten by its producer in a second run"


def test_another_directory_is_refused_unless_forced(cli: Cli) -> None:
    cli.write("input.txt", "1")
    cli.write("w.yaml", FILES)
    assert cli.run("run", "w.yaml").code == 0
    assert cli.events()[0]["directory"] == str(cli.directory)

    elsewhere = Cli(cli.directory / "else where")
    elsewhere.directory.mkdir()
    output = ("-o", str(cli.directory / "torc_output"))
    before = everything_below(cli.directory)
    for command in (["reinitialize", "1"], ["reinitialize", "1", "--dry-run"]):
        refused = elsewhere.run(*command, *output)
        assert refused.code == 2, command
        assert f"submitted in {cli.directory}, and this is {elsewhere.directory}" in refused.err
        assert f"cd {cli.directory} " in refused.err
    assert before.keys() == everything_below(cli.directory).keys()
    assert len(cli.events()) == before[str(cli.directory / "torc_output/workflows/1/events.jsonl")][2].count(
        b"\n"
    )

    forced = elsewhere.run("reinitialize", "1", "--dry-run", "--force", "-f", "json", *output)
    assert [row["name"] for row in forced.json["reset"]] == ["make", "use", "after"]


def test_another_name_of_the_same_directory_is_the_same(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: ':'}]\n")
    assert cli.run("run", "w.yaml").code == 0
    events = cli.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    (cli.directory / "alias").symlink_to(cli.directory)
    lines = events.read_text().replace(
        f'"directory":"{cli.directory}"', f'"directory":"{cli.directory}/alias"', 1
    )
    events.write_text(lines)
    assert cli.events()[0]["directory"].endswith("/alias")
    assert cli.run("reinitialize", "1").code == 0


def test_a_directory_that_is_gone_is_said_to_be_gone(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: ':'}]\n")
    assert cli.run("run", "w.yaml").code == 0
    moved = Cli(cli.directory.rename(cli.directory.with_name("moved")))
    refused = moved.run("reinitialize", "1")
    assert refused.code == 2
    assert "if it was moved to here, pass --force" in refused.err
    assert moved.run("reinitialize", "1", "--force").code == 0


def test_ids_of_removed_jobs_are_not_used_again(cli: Cli) -> None:
    def spec(*names: str) -> str:
        jobs = "".join(f"  - {{name: {name}, command: ':'}}\n" for name in names)
        return cli.write("w.yaml", f"name: w\njobs:\n{jobs}")

    def change_to(*names: str) -> Any:
        return cli.run("reinitialize", "1", "--spec", spec(*names), "-f", "json").json["reset"]

    assert cli.run("run", spec("a", "b", "c")).code == 0
    assert change_to("a") == []
    assert [(row["job_id"], row["name"]) for row in change_to("a", "d")] == [(4, "d")]
    assert cli.run("run", "1").code == 0
    items = cli.run("results", "1", "--all-runs", "-f", "json").json["items"]
    assert sorted((row["job_id"], row["job_name"]) for row in items) == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
    ]


def test_reinitialize_with_nothing_to_do_writes_nothing_and_keeps_the_results_in_sight(cli: Cli) -> None:
    text = "name: w\nfiles: [{name: m, path: made}]\njobs: [{name: a, command: 'echo >made', output_files: [m]}]\n"
    spec = cli.write("w.yaml", text)
    assert cli.run("run", spec).code == 0
    before = cli.events()
    for command in (["reinitialize", "1"], ["reinitialize", "1", "--spec", spec]):
        done = cli.run(*command)
        assert (done.code, done.out) == (0, "nothing has to run again\n")
        document = cli.run(*command, "-f", "json").json
        assert (document["run_id"], document["reset"]) == (1, [])
    assert cli.events() == before
    assert [row["job_name"] for row in cli.run("results", "1", "-f", "json").json["items"]] == ["a"]
    # Control: with something to do it begins a run, and says how to run it.
    (cli.directory / "made").unlink()
    assert "to run them: torc-supervise run 1" in cli.run("reinitialize", "1").out
    assert cli.events()[-1]["run_id"] == 2


def test_reinitialize_revives_what_was_canceled_before_it_ran(cli: Cli) -> None:
    """Nothing has to run again; but it is canceled no more, and something is left to run."""
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: ':'}]\n")
    assert cli.run("run", "w.yaml").code == 0
    cli.run("reset-status", "1", "--reinitialize")
    assert cli.run("cancel", "1").code == 0
    assert cli.run("status", "1", "-f", "json").json["state"] == "canceled"
    said = cli.run("reinitialize", "1").out
    assert said.splitlines() == ["nothing has to run again", "to run what is left: torc-supervise run 1"]
    assert cli.run("status", "1", "-f", "json").json["state"] == "terminated"


def test_inputs_of_what_is_still_to_run_are_looked_at_anew(cli: Cli) -> None:
    """It then runs with them as they are: a later reinitialize finds no change."""
    (cli.directory / "in").write_text("1")
    text = "name: w\nfiles: [{name: i, path: in}]\njobs: [{name: a, command: 'cat in', input_files: [i]}]\n"
    cli.write("w.yaml", text)
    assert cli.run("run", "w.yaml").code == 0
    cli.run("reset-status", "1", "--reinitialize")
    change(cli.directory / "in")
    assert "nothing has to run again" in cli.run("reinitialize", "1").out
    assert cli.run("run", "1").code == 0
    assert would_run(cli) == []


def test_a_dry_run_touches_nothing_also_where_a_supervisor_was_lost(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: ':'}]\n")
    assert cli.run("run", "w.yaml").code == 0
    events = cli.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    started = next(number for number, line in enumerate(lines) if b'"event":"job_started"' in line)
    events.write_bytes(b"".join(lines[: started + 1]))  # as if all was killed right then

    before = everything_below(cli.directory)
    assert would_run(cli) == [("a", "its supervisor was lost while it ran")]
    assert everything_below(cli.directory) == before


def test_a_dry_run_of_what_somebody_works_on_is_refused(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: echo up; exec sleep 1000}]\n")
    pipe = cli.stdout_pipe(1)
    supervisor = cli.start("run", "w.yaml")
    pipe.wait_for("up")
    refused = cli.run("reinitialize", "1", "--dry-run")
    assert refused.code == 2
    assert f"pid {supervisor.process.pid} on " in refused.err
