"""Writer: the keeper's thread for lock, journal and snapshot.  It alone waits for the disk, from its first look at it.

Group commit: whatever has arrived since the last fsync goes out in one write and one fsync, and is acknowledged after
it.  A full disk costs nothing but memory: the lines are kept and tried again, in order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable

from torc_supervise.errors import JournalError
from torc_supervise.store import snapshot
from torc_supervise.store.journal import Journal
from torc_supervise.store.layout import WorkflowFiles

_CAME_AND_WENT = "somebody who has written to its journal"

GATHER = 0.01
"""Seconds between the beginnings of two commits: hundreds of jobs that start and end meanwhile share one fsync, which
takes as much time as some of them have themselves.  What comes after a pause is committed at once."""

RETRY_AFTER = 1.0  # seconds between tries while the disk is full or broken
SHARE_OF_TIME = 0.02  # snapshots of a huge workflow take at most this share of the keeper's time


class Writer:
    """Owns the journal.  ``snapshot_of`` is asked for a new document when one is due and something has changed.

    ``open_`` opens the journal, first thing in the thread, and says what is to be written to it before all else, up to
    record ``last_seq``; ``on_unreadable`` is told that it never can, and then nothing is written.
    ``new_owner`` is asked before each commit, and at each :meth:`check`, who has the workflow in our place; then
    ``on_lost`` is told, once, and nothing is written any more.
    """

    def __init__(
        self,
        open_: Callable[[], tuple[Journal, list[bytes]]],
        files: WorkflowFiles,
        on_durable: Callable[[int], None],
        on_trouble: Callable[[str, str], None],
        snapshot_of: Callable[[], Iterable[bytes]],
        clock: Callable[[], float],
        last_seq: int = 0,
        snapshot_interval: float = 1.0,
        new_owner: Callable[[], str | None] = lambda: None,
        on_lost: Callable[[str], None] = lambda owner: None,
        on_unreadable: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._open = open_
        self._journal: Journal
        self._files = files
        self._on_durable = on_durable
        self._on_trouble = on_trouble
        self._snapshot_of = snapshot_of
        self._clock = clock
        self._interval = snapshot_interval
        self._new_owner = new_owner
        self._on_lost = on_lost
        self._on_unreadable = on_unreadable
        self._lost = False
        self._condition = threading.Condition()
        self._lines: list[bytes] = []
        self._writing: list[bytes] = []
        self._last_seq = last_seq
        self._leaving = False
        self._check_due = False
        self._changed = False  # the first records, run_started among them, make the first snapshot
        self._in_trouble: set[str] = set()  # codes that were said and are not over
        self._snapshot_due = 0.0
        self._commit_due = 0.0
        self._gathering = False  # what is put meanwhile need not wake the thread
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, lines: list[bytes], last_seq: int) -> None:
        with self._condition:
            self._lines += lines
            self._last_seq = last_seq
            self._changed = True
            if not self._gathering:
                self._condition.notify()

    def check(self) -> None:
        """See whether the workflow is still ours, though there may be nothing to write."""
        with self._condition:
            self._check_due = True
            self._condition.notify()

    def leave(self) -> None:
        """Write everything that was put, then the last snapshot, close the journal, then end."""
        with self._condition:
            self._leaving = True
            self._condition.notify()

    def join(self, limit: float | None = None) -> bool:
        """Wait for its end, for at most ``limit`` seconds; whether it has ended."""
        return self._ended.wait(limit)

    def unwritten(self) -> bytes:
        """What is not durable: what is being written, then what waits for it."""
        with self._condition:
            return b"".join(self._writing + self._lines)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()

    def _work(self) -> None:
        try:
            self._begin()
        except (JournalError, FileNotFoundError) as error:
            self._on_unreadable(error)
            return
        self._serve()
        if not self._lost:
            self._journal.close()

    def _begin(self) -> None:
        """Open the journal, as soon as that can be done, unless somebody else has the workflow.

        Raises:
            JournalError, FileNotFoundError: it is not what we left; that does not pass, as a full disk may.
        """
        while not self._is_lost():
            try:
                self._journal, missing = self._open()
            except FileNotFoundError:
                raise
            except OSError as error:
                self._try_again(error)
                continue
            with self._condition:
                self._lines = missing + self._lines
                self._changed = self._changed or bool(missing)
            return

    def _serve(self) -> None:
        while True:
            with self._condition:
                while not (self._lines or self._leaving or self._check_due):
                    if not self._condition.wait(self._time_to_snapshot()):
                        break
                self._gathering = True
                while not self._leaving and (left := self._time_to_commit()) > 0:
                    self._condition.wait(left)
                self._gathering = False
                lines, seq, leaving = self._lines, self._last_seq, self._leaving
                self._writing, self._lines = lines, []
                check, self._check_due = self._check_due, False
            if check:
                self._check_owner()
            if lines:
                self._commit(lines, seq)
            if leaving and not self._lines:
                self._write_snapshot()
                return
            if self._time_to_snapshot() == 0.0:
                self._write_snapshot()

    def _time_to_commit(self) -> float:
        """Seconds for which more may gather; 0 where there is nothing to commit."""
        return self._commit_due - self._clock() if self._lines else 0.0

    def _commit(self, lines: list[bytes], seq: int) -> None:
        """Until they are durable; meanwhile new lines gather and the parent keeps its copies.

        Where the workflow has another owner by now they are dropped: two writers would ruin the journal.
        """
        data = b"".join(lines)
        self._commit_due = self._clock() + GATHER
        while True:
            if self._is_lost():
                return
            try:
                self._journal.append(data)
                break
            except OSError as error:
                self._try_again(error)
        if "journal_not_written" in self._in_trouble:
            self._in_trouble.remove("journal_not_written")
            self._on_trouble("journal_written_again", f"{self._files.journal}: everything is written again")
        self._writing = []
        self._on_durable(seq)

    def _try_again(self, error: OSError) -> None:
        """After a pause; not where somebody else has written, which ``_is_lost`` knows then."""
        if error.errno == errno.EBUSY:
            self._lose(_CAME_AND_WENT)
            return
        self._report("journal_not_written", self._files.journal, error)
        with self._condition:
            self._condition.wait(RETRY_AFTER)

    def _is_lost(self) -> bool:
        if not self._lost and (owner := self._new_owner()) is not None:
            self._lose(owner)
        return self._lost

    def _check_owner(self) -> None:
        """Whoever took over may have left again: then the lock says nothing, and the journal does."""
        with contextlib.suppress(OSError):
            if not self._lost and self._journal.has_grown():
                self._lose(_CAME_AND_WENT)
        self._is_lost()

    def _lose(self, owner: str) -> None:
        self._lost = True
        self._on_lost(owner)

    def _time_to_snapshot(self) -> float | None:
        """Seconds until the next snapshot is due; None if nothing has changed since the last one."""
        return max(0.0, self._snapshot_due - self._clock()) if self._changed else None

    def _write_snapshot(self) -> None:
        started = self._clock()
        self._changed = False
        if self._lost:
            return
        try:
            snapshot.replace(self._files, self._snapshot_of())
            self._in_trouble.discard("snapshot_not_written")
        except OSError as error:
            self._changed = True
            self._report("snapshot_not_written", self._files.snapshot, error)
        now = self._clock()
        self._snapshot_due = now + max(self._interval, (now - started) / SHARE_OF_TIME)

    def _report(self, code: str, path: str, error: OSError) -> None:
        """Say it once until it is over.  Each by itself: the journal may find room where a snapshot finds none."""
        if code in self._in_trouble:
            return
        self._in_trouble.add(code)
        what = (
            "the disk is full"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else os.strerror(error.errno or 0)
        )
        self._on_trouble(code, f"{path}: {what}; kept in memory, jobs go on")
