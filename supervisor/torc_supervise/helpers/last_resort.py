"""Last resort: what the parent does by itself where keepers die one after another, or none can be started.

It goes on supervising.  It tells whoever watches with a voice of its own, and at the end it writes what no keeper has
confirmed.  A terminal may be stopped and a disk may hang, so both are done by threads that nobody waits for without a
limit (P8, P12).  There is no such thread while a keeper does its work.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from torc_supervise.errors import JournalError
from torc_supervise.helpers.speaker import Speaker
from torc_supervise.posix import threads
from torc_supervise.store import snapshot
from torc_supervise.store.journal import Journal
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Lock

KEEPERS_IN_A_ROW = 3
"""Keepers that may die without having confirmed anything, or not start, until the parent speaks for itself."""

ALONE = (
    "NO KEEPER CAN BE HAD: jobs go on, and results are kept in memory and written at the end; until there is a "
    "keeper again, a SIGKILL to this process loses them, and leaves its jobs to the next command"
)

RETRY_AFTER = 0.5  # seconds between two tries to write
LAST_WORDS_LIMIT = 2.0  # seconds for a terminal that does not take them


class Voice:
    """The parent's own voice: silent until it is raised."""

    def __init__(self) -> None:
        self._speaker: Speaker | None = None

    @property
    def raised(self) -> bool:
        return self._speaker is not None

    def raise_(self) -> bool:
        """Whether it is raised now: not where the machine is too full for a thread (P11)."""
        if self._speaker is None:
            with contextlib.suppress(RuntimeError):
                self._speaker = Speaker(None)
        return self.raised

    def say(self, text: str) -> None:
        """Only where it is raised."""
        if self._speaker is not None:
            self._speaker.say(text)

    def lower(self) -> None:
        """Its thread ends when it has said everything."""
        if self._speaker is not None:
            self._speaker.finish(0.0)
            self._speaker = None

    def finish(self) -> None:
        """Have everything said, for a limited time."""
        if self._speaker is not None:
            self._speaker.finish(LAST_WORDS_LIMIT)


class Unconfirmed(Struct, frozen=True):
    """What is to be written: ``lines`` with their numbers, and a snapshot that is made when they are durable."""

    files: WorkflowFiles
    lock: Lock
    lines: Sequence[tuple[int, bytes]]
    document: Callable[[], Iterable[bytes]]


class LastResort:
    """Writes by a thread; no keeper may be alive, or two would write.

    ``problem`` says why nothing is durable yet; None once everything is.
    """

    def __init__(self, what: Unconfirmed, until: float) -> None:
        """``until``: monotonic seconds."""
        self.problem: str | None = f"{what.files.journal}: the disk does not answer"
        self._what = what
        self._until = until
        self._thread = threads.LateThread(self._work, "last resort")

    def finish(self) -> str | None:
        """Wait until it is done or the time is up; returns the problem, if there is one."""
        if not self._thread.join(self._until):
            self.problem = "no thread can be started that writes them"
        return self.problem

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.is_set():
            try:
                self._write()
            except (OSError, JournalError) as error:
                self.problem = f"{self._what.files.journal}: {getattr(error, 'strerror', None) or error}"
                removed = isinstance(error, FileNotFoundError)  # it does not come back by itself, as room may
                if removed or time.monotonic() + RETRY_AFTER >= self._until:
                    return
                pause.wait(RETRY_AFTER)
            else:
                return

    def _write(self) -> None:
        """Race: somebody took the workflow over because nobody of ours seemed to be alive.  Two must not write.

        Test: test_last_resort.py::test_p9_nothing_is_written_where_somebody_else_owns_the_workflow.
        """
        what = self._what
        if not what.lock.is_ours() and os.path.exists(what.files.journal):
            raise JournalError("the workflow belongs to somebody else by now")
        journal = Journal(what.files.journal)
        try:
            on_disk = journal.last_seq()
            journal.append(b"".join(line for seq, line in what.lines if seq > on_disk))
        finally:
            journal.close()
        self.problem = None
        try:
            snapshot.replace(what.files, what.document())
        finally:
            what.lock.release()
