"""Hunt: processes of a run that nobody has on the books, found by what they carry in their environment.

Only for the last will.  Reading another process's environment may wait for that process where it is stuck in the
kernel, so this runs in a thread that nobody waits for without a limit, and never in the parent (P8).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection

from torc_supervise.posix import marks, procfs, threads
from torc_supervise.posix.groups import signal_descriptor

LOOK_AGAIN_AFTER = 0.2  # seconds, where not every process can be watched

UNREADABLE_AFTER = 1.0
"""Seconds after which a process that shows no environment is taken for one that has none."""


def marks_of(output_directory: str, workflow_id: int, run_id: int, nonce: str | None = None) -> list[bytes]:
    """Entries that every process of one run has in its environment (``RunEnvironment.of``), and of no other run."""
    entries = [
        f"TORC_OUTPUT_DIR={output_directory}",
        f"TORC_WORKFLOW_ID={workflow_id}",
        f"TORC_RUN_ID={run_id}",
    ]
    if nonce is not None:
        entries.append(f"{marks.NONCE}={nonce}")
    return list(map(os.fsencode, entries))


def job_mark(job_id: int) -> bytes:
    """The entry that all processes of one job have."""
    return b"TORC_JOB_ID=%d" % job_id


class Hunt:
    """Ends every process whose environment has all of ``wanted`` and none of ``spared``, and what it forks meanwhile.

    Each mark is a whole entry, ``NAME=value``.
    """

    def __init__(self, wanted: Collection[bytes], spared: Collection[bytes], seconds: float) -> None:
        self._killed: set[int] = set()
        self._marks = frozenset(wanted)
        self._spared = frozenset(spared)
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._unread_since: dict[tuple[int, int], float] = {}  # (pid, start ticks) -> monotonic seconds
        self._thread = threads.LateThread(self._work, "hunt")

    def finish(self) -> frozenset[int]:
        """Wait until nothing is left, or until the time is up; returns the pids that were killed.

        Pids, and no count: two hunts at a time may kill the same process.
        """
        self._until = time.monotonic() + self._seconds
        self._thread.join(self._until)
        return frozenset(self._killed.copy())

    def _work(self) -> None:
        while time.monotonic() < self._until:
            poll = select.poll()
            try:
                left, is_all = self._look()
            except OSError:  # the machine is too full to tell: nobody is gone because nobody can look
                poll.poll(LOOK_AGAIN_AFTER * 1000)
                continue
            if is_all and not left:
                break
            descriptors = [descriptor for pid in left if (descriptor := self._kill(pid)) is not None]
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            poll.poll(LOOK_AGAIN_AFTER * 1000)
            for descriptor in descriptors:
                os.close(descriptor)

    def _look(self) -> tuple[list[int], bool]:
        """Those that have the marks, and whether that is all of them: of some it may not be possible to tell yet."""
        found, is_all = [], True
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                marked = self._is_marked(int(name))
                is_all = is_all and marked is not None
                if marked:
                    found.append(int(name))
        return found, is_all

    def _is_marked(self, pid: int) -> bool | None:
        """None where that cannot be told yet."""
        block = marks.read_environment(pid)
        if block == b"":
            block = self._read_again(pid)
        if block is None:
            return None
        entries = set(block.split(b"\0"))
        return self._marks <= entries and not self._spared & entries

    def _read_again(self, pid: int) -> bytes | None:
        """The block of one that has shown none; None where it is to be asked again.

        Race: a process of the run is just calling exec at the only look that finds no other.  Between the new memory
        map and its environment there is nothing to read, and its end is 0 (``marks.environment_block``).  The same is
        true of one whose memory is gone and that hangs in its exit, so it is not asked for ever.
        Test: test_hunt.py::test_p10_a_process_that_cannot_be_read_yet_is_found_in_the_end.
        """
        try:
            about = procfs.stat(pid)
        except OSError:  # hidden from us (hidepid)
            return b""
        if about is None or about.state in ("Z", "X") or about.sid == 0 or not procfs.is_of_our_user(pid):
            return b""  # (kernel threads have no session)
        if about.environment_end:
            return marks.read_environment(pid)  # that exec is over, or there is none to be had
        now = time.monotonic()
        since = self._unread_since.setdefault((pid, about.start_ticks), now)
        return None if now - since < UNREADABLE_AFTER else b""

    def _kill(self, pid: int) -> int | None:
        """SIGKILL; returns a descriptor that becomes readable when it is dead.

        Race: the process ended, and its number was given to another one after we had read its environment.  The
        descriptor holds the process; what it holds is looked at once more before the signal goes through it.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        if self._is_marked(pid):
            try:
                signal_descriptor(descriptor, signal.SIGKILL)
                self._killed.add(pid)
            except OSError:
                pass  # the next round tries again
        return descriptor
