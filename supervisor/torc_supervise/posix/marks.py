"""Marks: which run, job and attempt a process belongs to, read from its environment.

Reading another process's environment takes the lock on its memory map, which is held for as long as that process is
stuck in the kernel in the wrong place (an mmap on a file server that hangs).  So it is done by a thread that nobody
waits for longer than :data:`PATIENCE` (P8), and not at all of a process in uninterruptible sleep.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from msgspec import Struct

from torc_supervise.posix import procfs, threads
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.spawn import MACHINE_FULL

NONCE = "TORC_RUN_NONCE"
"""Name of the variable that tells the processes of one run from those of every other, also on other hosts."""

PATIENCE = 0.02
"""Seconds that a read may take.  It needs microseconds where nothing is wrong."""

EXECS = 20
"""Looks in a row at a process that is just calling exec and shows no environment meanwhile."""


class Mark(Struct, frozen=True):
    """Values of the variables, as text."""

    nonce: str
    job_id: str
    attempt_id: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Mark | None:
        """None where the environment is not that of a job."""
        nonce = environment.get(NONCE)
        if not nonce:
            return None
        return cls(nonce, environment.get("TORC_JOB_ID", ""), environment.get("TORC_ATTEMPT_ID", ""))


def parse(block: bytes) -> Mark | None:
    """The mark in an environment block, ``NAME=value`` separated by NUL."""
    entries = (
        os.fsdecode(entry).partition("=") for entry in block.split(b"\0") if entry.startswith(b"TORC_")
    )
    return Mark.of({name: value for name, _, value in entries})


def environment_block(about: ProcessStat) -> bytes | None:
    """What /proc/PID/environ says; empty where there is nothing, or nothing for us.

    A process that has wiped its environment, or is another user's, has none for us.

    Returns:
        None where it cannot be told now: it is stuck, or the machine is full.
    """
    was_there = False
    for _ in range(EXECS):
        if about.state == "D":
            return None
        block = _read_with_patience(about.pid)
        if block is None or block:
            return block
        # Race: between exec's new memory map and its environment there is nothing to read.  The end of the block
        # is 0 just then; it is not in a process that was started with an empty environment.  That exec may be over
        # before we look at the end of the block: only what is read after that is empty for sure.
        # Test: test_lineage.py::test_a_process_that_is_just_calling_exec_is_asked_again,
        # test_kin.py::test_an_exec_that_is_over_before_it_is_noticed_hides_no_mark.
        now = procfs.stat(about.pid)
        if now is None or not now.alive or now.start_ticks != about.start_ticks:
            return b""
        if not procfs.is_of_our_user(about.pid):
            return b""
        if now.environment_end and was_there:
            return b""
        was_there = bool(now.environment_end)
        os.sched_yield()
    return None


def _read_with_patience(pid: int) -> bytes | None:
    found: list[bytes | None] = []
    done = threading.Event()

    def work() -> None:
        found.append(read_environment(pid))
        done.set()

    if threads.begin(work, "mark") is None:
        return None
    done.wait(PATIENCE)
    return found[0] if found else None


def read_environment(pid: int) -> bytes | None:
    """Its block, empty where there is none or none for us; waits as long as that takes.

    Where the main thread has ended and others go on it is theirs to show.

    Returns:
        None where the machine is too full to tell.
    """
    try:
        if block := _content(f"/proc/{pid}/environ"):
            return block
        others = os.listdir(f"/proc/{pid}/task")[1:]
        blocks = (_content(f"/proc/{pid}/task/{tid}/environ") for tid in others)
        return next(filter(None, blocks), b"")
    except OSError as error:
        return None if error.errno in MACHINE_FULL else b""


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except ProcessLookupError:  # it has no memory any more (Linux 6.18; older ones show nothing)
        return b""
