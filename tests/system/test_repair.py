"""``torc-supervise repair``: a damaged journal is named, mended, and its workflow goes on."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

from support.cli import Cli

TWO = """
name: two
jobs:
  - {name: first, command: echo first >>ran}
  - {name: second, command: echo second >>ran, depends_on: [first]}
"""
WAITS = """
name: waits
jobs:
  - {name: waits, command: "echo here; exec sleep 1000", supports_termination: true}
"""


def journal(cli: Cli) -> Path:
    return cli.directory / "torc_output" / "workflows" / "1" / "events.jsonl"


def garble(path: Path, event: str) -> tuple[int, int]:
    """Overwrite the first line of that event; returns its number and byte."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if f'"{event}"'.encode() in line)
    lines[at] = b"\0" * (len(lines[at]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    return at + 1, sum(map(len, lines[:at]))


def test_p9_a_garbled_journal_is_named_repaired_and_gone_on_with(cli: Cli) -> None:
    assert cli.run("run", cli.write("two.yaml", TWO)).code == 0
    path = journal(cli)
    line, byte = garble(path, "job_ended")
    damaged = path.read_bytes()
    refused = cli.run("run", "1")
    assert refused.code == 70
    assert f"line {line} (byte {byte})" in refused.err
    assert "'torc-supervise repair 1'" in refused.err
    done = cli.run("repair", "1", "-f", "json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["damages"][0]["line"], found["damages"][0]["byte"]) == (line, byte)
    copy = Path(found["copy"])
    assert copy.read_bytes() == damaged
    assert [stat.S_IMODE(p.stat().st_mode) for p in (copy, path)] == [0o600, 0o600]
    assert [w["code"] for w in cli.run("status", "1", "-f", "json").json["warnings"]] == ["journal_repaired"]
    assert cli.run("run", "1").code == 0
    rows = cli.run("results", "1", "-f", "json", "--all-runs").json["items"]
    assert [row["ended"] for row in rows if row["job_name"] == "first"] == ["lost", "exited"]
    assert (cli.directory / "ran").read_text().splitlines()[:2] == ["first", "second"]


def test_a_journal_without_damage_is_left_alone(cli: Cli) -> None:
    assert cli.run("run", cli.write("two.yaml", TWO)).code == 0
    with journal(cli).open("ab") as file:
        file.write(b'{"t":"torn')
    before = journal(cli).read_bytes()
    done = cli.run("repair", "1")
    assert (done.code, journal(cli).read_bytes()) == (0, before)
    assert "nothing is wrong" in done.out
    assert cli.run("run", "1").code == 0


def test_nobody_repairs_what_somebody_runs(cli: Cli) -> None:
    pipe = cli.stdout_pipe(1)
    started = cli.start("run", cli.write("waits.yaml", WAITS))
    pipe.wait_for("here")
    refused = cli.run("repair", "1")
    assert refused.code == 2
    assert "belongs to 'torc-supervise run'" in refused.err
    started.signal(signal.SIGTERM)
    assert started.finish().code == 75
    assert [path.name for path in journal(cli).parent.glob("events.jsonl*")] == ["events.jsonl"]


def test_a_second_repair_keeps_the_copy_of_the_first(cli: Cli) -> None:
    assert cli.run("run", cli.write("two.yaml", TWO)).code == 0
    copies = []
    for event in ("job_started", "run_started"):
        garble(journal(cli), event)
        copies.append(cli.run("repair", "1", "-f", "json").json["copy"])
    assert [Path(copy).name for copy in copies] == ["events.jsonl.damaged-1", "events.jsonl.damaged-2"]
    assert all(Path(copy).exists() for copy in copies)


def test_a_workflow_whose_first_line_is_lost_says_so(cli: Cli) -> None:
    assert cli.run("run", cli.write("two.yaml", TWO)).code == 0
    garble(journal(cli), "workflow_created")
    before = journal(cli).read_bytes()
    done = cli.run("repair", "1")
    assert (done.code, journal(cli).read_bytes()) == (70, before)
    assert "holds the workflow itself" in done.err
    assert "Traceback" not in done.err
