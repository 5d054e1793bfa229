"""Hunt: processes of a run that nobody has on the books, found by what they carry in their environment.

Only for the last will.  Reading another process's environment may wait for that process where it is stuck in the
kernel, so this runs in a thread that nobody waits for without a limit, and never in the parent (P8).
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Collection

from torc_supervise.posix import procfs, threads
from torc_supervise.posix.groups import signal_descriptor
from torc_supervise.posix.marks import NONCE, environment_block_however_long

LOOK_AGAIN_AFTER = 0.2  # seconds, where not every process can be watched


def marks(output_directory: str, workflow_id: int, run_id: int, nonce: str | None = None) -> list[bytes]:
    """Entries that every process of one run has in its environment (``RunEnvironment.of``), and of no other run."""
    entries = [
        f"TORC_OUTPUT_DIR={output_directory}",
        f"TORC_WORKFLOW_ID={workflow_id}",
        f"TORC_RUN_ID={run_id}",
    ]
    if nonce is not None:
        entries.append(f"{NONCE}={nonce}")
    return list(map(os.fsencode, entries))


def job_mark(job_id: int) -> bytes:
    """The entry that all processes of one job have."""
    return b"TORC_JOB_ID=%d" % job_id


class Hunt:
    """Ends every process whose environment has all of ``marks`` and none of ``spared``, and what it forks meanwhile.

    Each mark is a whole entry, ``NAME=value``.
    """

    def __init__(self, marks: Collection[bytes], spared: Collection[bytes], seconds: float) -> None:
        self._killed: set[int] = set()
        self._marks = frozenset(marks)
        self._spared = frozenset(spared)
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self._begin()

    def finish(self) -> frozenset[int]:
        """Wait until nothing is left, or until the time is up; returns the pids that were killed.

        Pids, and no count: two hunts at a time may kill the same process.
        """
        until = time.monotonic() + self._seconds
        while not self._begin() and (left := until - time.monotonic()) > 0.0:
            select.poll().poll(min(LOOK_AGAIN_AFTER, left) * 1000)
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        return frozenset(self._killed.copy())

    def _begin(self) -> bool:
        """Whether there is a thread; not yet where the machine is too full for one, until jobs have ended (P11)."""
        self._thread = self._thread or threads.begin(self._work, "hunt")
        return self._thread is not None

    def _work(self) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            poll = select.poll()
            seen = self._look()
            left = [pid for pid, marked in seen.items() if marked]
            if not seen:
                break
            descriptors = [descriptor for pid in left if (descriptor := self._kill(pid)) is not None]
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            poll.poll(LOOK_AGAIN_AFTER * 1000)
            for descriptor in descriptors:
                os.close(descriptor)

    def _look(self) -> dict[int, bool | None]:
        """Those that have the marks, and those of which that cannot be told now, who are looked at again.

        Race: a process of the run is just calling exec, and shows no environment at the only look that finds no other.
        Test: test_hunt.py::test_p10_a_process_that_cannot_be_read_yet_is_found_in_the_end.
        """
        found = {int(name): self._is_marked(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        return {pid: marked for pid, marked in found.items() if marked is not False and pid != os.getpid()}

    def _is_marked(self, pid: int) -> bool | None:
        """None where it cannot be told: the machine is too full, or the process is just calling exec."""
        try:
            about = procfs.stat(pid)
            if about is None or not about.alive or about.sid <= 1:  # kernel threads have no session
                return False
            block = environment_block_however_long(about)
            if block is None:
                return None if os.stat(f"/proc/{pid}").st_uid == os.geteuid() else False
        except OSError as error:
            return False if isinstance(error, FileNotFoundError) else None
        entries = set(block.split(b"\0"))
        return self._marks <= entries and not self._spared & entries

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
