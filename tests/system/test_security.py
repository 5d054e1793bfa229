"""What others can read, and what a workflow file can make the supervisor do (docs/security.md)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from support.cli import Cli

SECRETS = {"TOKEN": "hunter2-of-the-job", "SHARED": "hunter2-of-all"}

NAMES = [
    "../../evil",
    "/evil",
    "..",
    ".",
    "a/b/c",
    "~",
    "$(touch evil)",
    "`touch evil`",
    "; touch evil;",
    "-rf",
    "é\u202e",
]


def secret_workflow(cli: Cli, **job: object) -> str:
    first = {"name": "first", "env": {"TOKEN": SECRETS["TOKEN"]}, **job}
    text = json.dumps({"name": "secret", "env": {"SHARED": SECRETS["SHARED"]}, "jobs": [first]})
    return cli.write("workflow.json", text)


@pytest.mark.parametrize(
    "job",
    [
        {"command": "exit 0"},
        {"command": "exit 3"},
        {"command": "exec sleep 1000", "resource_requirements": {"runtime": "PT1S"}},
        {"command": "x" * 3_000_000},
    ],
    ids=["completes", "fails", "runs too long", "cannot start"],
)
def test_values_of_env_are_in_no_file_that_others_can_read_and_in_no_output(
    cli: Cli, job: dict[str, object]
) -> None:
    said = [cli.run("run", secret_workflow(cli, **job))]
    for command in ("status", "jobs", "results", "list", "logs"):
        arguments = [command] + ([] if command == "list" else ["1"])
        said += [cli.run(*arguments), cli.run(*arguments, "-f", "json")]
    said.append(cli.run("validate", "workflow.json", "-f", "json"))
    for done in said:
        assert not [value for value in SECRETS.values() if value in done.out + done.err]
    for path in (cli.directory / "torc_output").rglob("*"):
        if path.is_file() and any(value.encode() in path.read_bytes() for value in SECRETS.values()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert path.name == "events.jsonl"


def test_the_journal_is_for_its_owner_under_any_umask(cli: Cli) -> None:
    done = cli.run("run", secret_workflow(cli, command="umask"))
    assert done.code == 0
    journal = cli.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600


def everything_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_names_in_a_workflow_file_lead_nothing_out_of_the_output_directory(cli: Cli) -> None:
    inside = cli.directory / "a" / "b"
    inside.mkdir(parents=True)
    jobs = [{"name": name, "command": "echo out; echo err >&2"} for name in NAMES]
    (inside / "workflow.json").write_text(json.dumps({"name": "../../evil", "jobs": jobs}))
    before = everything_below(cli.directory)
    done = Cli(inside).run("run", "workflow.json")
    assert done.code == 0, done.err
    made = everything_below(cli.directory) - before
    assert {path for path in made if not path.startswith("a/b/torc_output")} == set()
    names = {path.name for path in (inside / "torc_output").rglob("*") if path.is_file()}
    stdio = {f"job_wf1_j{j}_r1_a1.{suffix}" for j in range(1, len(NAMES) + 1) for suffix in "oe"}
    assert names == stdio | {"events.jsonl", "status.json"}


def test_an_output_directory_that_everybody_may_write_is_refused_with_the_way_out(cli: Cli) -> None:
    stdio = cli.directory / "torc_output" / "job_stdio"
    stdio.mkdir(parents=True)
    stdio.chmod(0o777)
    done = cli.run("run", secret_workflow(cli, command="exit 0"))
    assert done.code == 2
    assert f"{stdio} can be written by everybody" in done.err
    assert "--output-dir" in done.err
    assert list((cli.directory / "torc_output" / "workflows").glob("*/lock*")) == []
