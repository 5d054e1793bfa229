"""The prologue: what the shell of a job opens, and how little it changes the job (P8)."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from torc_supervise.posix.memory import jobs_oom_score_adj
from torc_supervise.posix.shell import command_line, find_bash

pytestmark = pytest.mark.process

BASH = find_bash() or "bash"


def run(command: str, stdout: Path | None, stderr: Path | None) -> int:
    argv = command_line(BASH, command, str(stdout) if stdout else None, str(stderr) if stderr else None)
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.PIPE, check=False)
    assert done.stdout == b"", "nothing goes where the supervisor's own output goes"
    assert done.stderr == b""
    return done.returncode


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "job.o"


@pytest.fixture
def err(tmp_path: Path) -> Path:
    return tmp_path / "job.e"


def test_stdout_and_stderr_go_to_their_files(out: Path, err: Path) -> None:
    assert run("echo one; echo two >&2; exit 3", out, err) == 3
    assert (out.read_text(), err.read_text()) == ("one\n", "two\n")


def test_combined_keeps_the_order(out: Path) -> None:
    assert run("echo one; echo two >&2; echo three", out, out) == 0
    assert out.read_text() == "one\ntwo\nthree\n"


def test_a_file_that_is_not_wanted_is_dev_null(out: Path, err: Path) -> None:
    assert run("echo one; echo two >&2", out, None) == 0
    assert out.read_text() == "one\n"
    assert run("echo one; echo two >&2", None, err) == 0
    assert err.read_text() == "two\n"
    assert run("echo one; echo two >&2", None, None) == 0


def test_stdin_is_empty(out: Path, err: Path) -> None:
    assert run("cat; readlink /proc/self/fd/0", out, err) == 0
    assert out.read_text() == "/dev/null\n"


def test_a_syntax_error_is_reported_in_the_jobs_own_file(out: Path, err: Path) -> None:
    assert run("echo started\nif then", out, err) != 0
    assert "syntax error" in err.read_text()


def test_the_last_command_is_execed(out: Path, err: Path) -> None:
    """So that a signal to the leader alone reaches the program."""
    assert run("readlink /proc/$$/exe; exec readlink /proc/self/exe", out, err) == 0
    assert run("grep -c . /dev/null; grep -h '^PPid\\|^Pid' /proc/self/status; true", out, err) == 0
    assert run("grep '^Name' /proc/$$/status", out, err) == 0
    assert out.read_text() == "Name:\tgrep\n"


ODD_NAMES = ["with space", "with'quote", 'with"double', "with$HOME", "with\nnewline", "a;b", "-n", "ü"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_paths(tmp_path: Path, name: str) -> None:
    out, err = tmp_path / name / "job.o", tmp_path / name / "job.e"
    out.parent.mkdir()
    assert run("echo one; echo two >&2", out, err) == 0
    assert (out.read_text(), err.read_text()) == ("one\n", "two\n")


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo $0 $#", "0\n"),
        ("printf '%s\\n' \"a  b\" 'c\"d' \\$e", 'a  b\nc"d\n$e\n'),
        ("cat <<END\nhere\nEND", "here\n"),
        ("# a comment", ""),
        ("echo one \\\n  two", "one two\n"),
        ("f() {\n  echo $1\n}\nf x", "x\n"),
    ],
)
def test_commands_mean_what_they_mean_without_the_prologue(
    out: Path, err: Path, command: str, printed: str
) -> None:
    plain = subprocess.run([BASH, "-c", command], capture_output=True, text=True, check=False)
    assert run(command, out, err) == plain.returncode
    assert (out.read_text(), err.read_text()) == (plain.stdout, plain.stderr)
    assert out.read_text().endswith(printed)


def test_dollar_zero_is_that_of_a_plain_bash_c(out: Path, err: Path) -> None:
    plain = subprocess.run([BASH, "-c", "echo $0"], capture_output=True, text=True, check=True)
    run("echo $0", out, err)
    assert out.read_text() == plain.stdout


def test_the_soft_limit_on_open_files_is_given_back(out: Path) -> None:
    argv = command_line(BASH, "ulimit -Sn", str(out), None, open_files=77)
    subprocess.run(argv, check=True)
    assert out.read_text() == "77\n"


def test_jobs_go_before_their_supervisor_when_memory_is_short(out: Path) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert jobs_oom_score_adj() == min(1000, own + 500)
    argv = command_line(BASH, "cat /proc/self/oom_score_adj", str(out), None, oom_score_adj=own + 7)
    subprocess.run(argv, check=True)
    assert out.read_text() == f"{own + 7}\n"


def test_what_a_job_may_not_have_does_not_keep_it_from_running(tmp_path: Path, out: Path) -> None:
    """Neither is worth a word in the job's own files."""
    argv = command_line(
        BASH, "echo ran", str(out), str(out), oom_score_adj=12345, cgroup=str(tmp_path / "no" / "such")
    )
    done = subprocess.run(argv, capture_output=True, check=True)
    assert (out.read_text(), done.stdout, done.stderr) == ("ran\n", b"", b"")


def test_files_that_cannot_be_opened_end_the_job(tmp_path: Path) -> None:
    argv = command_line(BASH, "touch ran", str(tmp_path / "no" / "such"), None)
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "ran").exists()


WISHES: list[dict[str, Any]] = [
    {},
    {"oom_score_adj": 1000},
    {"cgroup": "/dev/null"},
    {"oom_score_adj": 1000, "cgroup": "/dev/null"},
]


@pytest.mark.parametrize("wishes", WISHES, ids=lambda wishes: "+".join(wishes) or "none")
@pytest.mark.parametrize("limit", [{}, {"open_files": 77}], ids=["no limit", "limit"])
def test_p10_a_job_whose_parent_is_somebody_else_does_not_begin(
    tmp_path: Path, out: Path, limit: dict[str, Any], wishes: dict[str, Any]
) -> None:
    """Whatever stands between the look at the parent and the exec."""
    argv = command_line(BASH, "touch ran", str(out), None, parent=1, **limit, **wishes)
    assert subprocess.run(argv, cwd=tmp_path, check=False).returncode == 125
    assert os.listdir(tmp_path) == []
    argv = command_line(BASH, "touch ran", str(out), None, parent=os.getpid(), **limit, **wishes)
    assert subprocess.run(argv, cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("wishes", WISHES, ids=lambda wishes: "+".join(wishes) or "none")
def test_a_limit_on_open_files_that_cannot_be_given_back_ends_the_job(
    tmp_path: Path, out: Path, wishes: dict[str, Any]
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    argv = command_line(BASH, "touch ran", str(out), None, open_files=hard + 1, **wishes)
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 125
    assert os.listdir(tmp_path) == []
