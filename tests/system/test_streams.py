"""Output that nobody reads, streams that are closed, and numbers that no machine has."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import IO

import pytest

from support.cli import COMMAND, LIMIT, Cli

SMALL = "name: w\njobs: [{name: a, command: ':'}]\n"


def nobody_reads() -> IO[bytes]:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb", buffering=0)


@pytest.mark.parametrize("which", ["stdout", "both"])
@pytest.mark.parametrize("format_", ["table", "json"])
def test_the_exit_code_of_a_run_does_not_depend_on_who_reads(cli: Cli, which: str, format_: str) -> None:
    cli.write("w.yaml", SMALL)
    with nobody_reads() as broken:
        stderr = broken if which == "both" else subprocess.DEVNULL
        done = subprocess.run(
            [*COMMAND, "run", "w.yaml", "-f", format_],
            cwd=cli.directory,
            stdout=broken,
            stderr=stderr,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 0
    assert cli.events()[-1]["exit_code"] == 0


def test_a_run_that_was_stopped_leaves_with_75_also_where_nobody_reads(cli: Cli) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: echo up; exec sleep 1000}]\n")
    pipe = cli.stdout_pipe(1)
    with nobody_reads() as broken:
        process = subprocess.Popen(
            [*COMMAND, "run", "w.yaml"], cwd=cli.directory, stdout=broken, stderr=broken
        )
    pipe.wait_for("up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 75


def test_a_full_disk_under_the_report_is_a_warning(cli: Cli) -> None:
    cli.write("w.yaml", SMALL)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "run", "w.yaml"],
            cwd=cli.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 0
    assert b"the report could not be written: No space left on device" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_need_nothing(cli: Cli, closed: str) -> None:
    cli.write("w.yaml", "name: w\njobs: [{name: a, command: echo out; echo err >&2}]\n")
    for arguments in (["run", "w.yaml"], ["status", "1"], ["results", "1"], ["logs", "1"]):
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {closed}', "bash", *COMMAND, *arguments],
            cwd=cli.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, "internal error" in done.stderr) == (0, False), done.stderr
        if "2>&-" in closed and arguments[0] == "run":
            assert "torc-supervise:" not in done.stdout, "chatter goes nowhere else"
    assert cli.events()[-1]["event"] == "run_ended"
    assert cli.run("logs", "1", "a", "--stdout").out == "out\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--memory-gb", "inf"),
        ("--memory-gb", "nan"),
        ("--memory-gb", "1e300"),
        ("--num-cpus", str(10**23)),
        ("--num-gpus", str(10**23)),
        ("--max-parallel-jobs", str(10**23)),
        ("--time-limit", "9999999999999h"),
        ("--time-limit", "inf"),
    ],
)
def test_numbers_that_no_machine_has_are_refused_before_anything_is_written(
    cli: Cli, option: str, value: str
) -> None:
    cli.write("w.yaml", SMALL)
    done = cli.run("run", "w.yaml", option, value)
    assert (done.code, "internal error" in done.err) == (2, False)
    assert option in done.err
    assert not (cli.directory / "torc_output").exists()
