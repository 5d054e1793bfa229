"""The hunt for processes that nobody has on the books."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from support import waiting
from support.supervised import Bench, child
from torc_supervise.helpers import hunt
from torc_supervise.posix import marks, procfs
from torc_supervise.posix.procfs import ProcessStat

pytestmark = pytest.mark.process

MARKS = {"TORC_TEST_HUNTED": "1", "TORC_TEST_RUN": f"{os.getpid()}"}


@pytest.fixture
def hunted() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], env=MARKS, start_new_session=True) as made:
        try:
            waiting.wait_until(lambda: waiting.command_line(made.pid) == b"sleep\0001000\0", "no exec")
            yield made
        finally:
            made.kill()


def hunt_for(**marks: str) -> frozenset[int]:
    entries = [f"{name}={value}".encode() for name, value in marks.items()]
    return hunt.Hunt(entries, [], waiting.LIMIT).finish()


def test_p10_a_process_that_cannot_be_read_yet_is_found_in_the_end(
    hunted: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were calling exec at each of three looks."""
    read, stat, looks = marks.read_environment, procfs.stat, list[int]()

    def in_exec() -> bool:
        return len(looks) <= 3

    def read_late(pid: int) -> bytes | None:
        if pid != hunted.pid:
            return read(pid)
        looks.append(pid)
        return b"" if in_exec() else read(pid)

    def stat_late(pid: int) -> ProcessStat | None:
        about = stat(pid)
        return replace(about, environment_end=0) if about and pid == hunted.pid and in_exec() else about

    monkeypatch.setattr(hunt, "UNREADABLE_AFTER", waiting.LIMIT)
    monkeypatch.setattr(marks, "read_environment", read_late)
    monkeypatch.setattr(procfs, "stat", stat_late)
    assert hunt_for(**MARKS) == {hunted.pid}
    assert hunted.wait(waiting.LIMIT) == -signal.SIGKILL


def test_p10_an_exec_that_is_over_before_it_is_noticed_hides_nobody(
    hunted: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, looks = marks.read_environment, list[int]()

    def read_late(pid: int) -> bytes | None:
        if pid != hunted.pid:
            return read(pid)
        looks.append(pid)
        return read(pid) if len(looks) > 1 else b""

    monkeypatch.setattr(marks, "read_environment", read_late)
    assert hunt_for(**MARKS) == {hunted.pid}


def test_p10_a_program_whose_main_thread_has_ended_is_found(bench: Bench) -> None:
    bench.gate("leave")
    environment = {**os.environ, **MARKS, "BENCH": str(bench.directory)}
    argv = child("thread_saves.py", "checkpoint", "leave").split()
    with subprocess.Popen(argv, cwd=bench.directory, env=environment, start_new_session=True) as program:
        try:
            bench.said.expect(starting_with="ready", unless_gone=program.pid)
            assert hunt_for(**MARKS) == {program.pid}
        finally:
            program.kill()


def test_p11_a_hunt_without_descriptors_goes_on_when_there_are_some(
    hunted: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir, tries = os.listdir, list[str]()

    def full(path: str) -> list[str]:
        tries.append(path)
        if len(tries) <= 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return listdir(path)

    monkeypatch.setattr(hunt, "os", SimpleNamespace(**vars(os) | {"listdir": full}))
    assert hunt_for(**MARKS) == {hunted.pid}


def test_a_hunt_is_over_at_once_where_others_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shows no environment is asked again only if it may be calling exec, and is of our user."""
    read, again = marks.read_environment, set[int]()

    def nothing_of_others(pid: int) -> bytes | None:
        if pid == 1:
            again.add(pid)
        return b"" if pid == 1 else read(pid)

    monkeypatch.setattr(marks, "read_environment", nothing_of_others)
    monkeypatch.setattr(procfs, "is_of_our_user", lambda pid: pid != 1)
    assert hunt_for(**MARKS) == frozenset()
    assert again == {1}


def test_p5_who_has_not_all_of_the_marks_is_left_alone(hunted: subprocess.Popen[bytes]) -> None:
    assert hunt_for(**MARKS, TORC_JOB_ID="2") == frozenset()
    assert hunted.poll() is None
