"""The hunt for processes that nobody has on the books."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from support import waiting
from torc_supervise.helpers import hunt
from torc_supervise.posix import threads
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
    read, looks = hunt.environment_block_however_long, []

    def late(about: ProcessStat) -> bytes | None:
        if about.pid != hunted.pid:
            return read(about)
        looks.append(about.pid)
        return read(about) if len(looks) > 3 else None

    monkeypatch.setattr(hunt, "environment_block_however_long", late)
    assert hunt_for(**MARKS) == {hunted.pid}
    assert hunted.wait(waiting.LIMIT) == -signal.SIGKILL


def test_p11_a_hunt_for_which_there_is_no_thread_yet_begins_later(
    hunted: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def full(work: Callable[[], object], name: str) -> threading.Thread | None:
        tries.append(name)
        return begin(work, name) if len(tries) > 2 else None

    begin = threads.begin
    monkeypatch.setattr(threads, "begin", full)
    assert hunt_for(**MARKS) == {hunted.pid}


def test_p5_who_has_not_all_of_the_marks_is_left_alone(hunted: subprocess.Popen[bytes]) -> None:
    assert hunt_for(**MARKS, TORC_JOB_ID="2") == frozenset()
    assert hunted.poll() is None
