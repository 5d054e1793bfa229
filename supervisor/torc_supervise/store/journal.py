"""The journal: events.jsonl, append-only, one writer, group commit with fsync.

The log is the database.  A line that was cut short by a crash (a torn last line) is dropped; whatever else does not
parse is an error that names line and byte, because something other than us wrote there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from msgspec import Struct

from torc_supervise.errors import JournalError
from torc_supervise.machine.records import SCHEMA_VERSION, Record, WorkflowCreated
from torc_supervise.machine.state import WorkflowState
from torc_supervise.store.records import decode, encode
from torc_supervise.workflow.model import Workflow


class Entry(Struct, frozen=True):
    """A record with its number and its times."""

    seq: int
    t: str
    mono: float
    record: Record | None  # None: an event of a newer version
    offset: int = 0  # of its line in the file, bytes


def read(path: str) -> Iterator[Entry]:
    """All entries of a journal in order.

    Raises:
        JournalError: naming line number and byte offset.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        offset = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn: it was being written when its writer died, or is being written now
            try:
                seq, t, mono, record = decode(line)
            except JournalError as error:
                raise _unreadable(path, number, offset, error.message) from None
            if seq != number:
                what = "lines are missing" if seq > number else "it is there twice, or two wrote at once"
                raise _unreadable(path, number, offset, f"record {seq} where {number} belongs: {what}")
            yield Entry(seq, t, mono, record, offset)
            offset += len(line)


def replay(path: str) -> tuple[WorkflowState, int]:
    """The state that the journal comes to, and the number of its last record.

    Raises:
        JournalError, OSError: as :func:`read`; also for a journal of a newer schema.
    """
    entries = read(path)
    first = next(entries, None)
    if first is None or not isinstance(first.record, WorkflowCreated):
        raise _unreadable(path, 1, 0, "the first line is not a workflow_created record")
    state, seq = new_state(first.record, first.t), 1
    for entry in entries:
        seq = entry.seq
        if entry.record is not None:
            try:
                state.apply(entry.t, entry.mono, entry.record)
            except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
                what = f"a {entry.record.event} record that does not fit this workflow ({error!r})"
                raise _unreadable(path, entry.seq, entry.offset, what) from error
    return state, seq


def new_state(created: WorkflowCreated, t: str) -> WorkflowState:
    """The state right after the first record.

    Raises:
        JournalError: the schema is newer than this program.
    """
    if created.schema > SCHEMA_VERSION:
        raise JournalError(
            f"workflow {created.workflow_id} was written by a newer version (schema {created.schema}, "
            f"this one reads up to {SCHEMA_VERSION})",
            "use the version that made it, or a newer one",
        )
    state = WorkflowState(created.workflow_id, Workflow.from_dict(created.workflow))
    state.apply(t, 0.0, created)
    return state


class Journal:
    """The writing end.  Only the owner of the workflow's lock may have one.

    Invariant: ``committed`` bytes of the file are whole lines that fsync has confirmed; what lies beyond is what a
    failed try has left, and is cut off before anything else is written.
    """

    def __init__(self, path: str, *, new: bool = False) -> None:
        """Open it; only with ``new`` it is made.

        Raises:
            OSError: it is not there, or cannot be written.
        """
        self._path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if new else 0)
        self._file = os.open(path, flags, 0o600)
        self.committed = self._drop_torn_line()
        self._dirty = False
        self._tried = 0  # bytes that the last, failed try has written

    def last_seq(self) -> int:
        """Number of the last record in the file, 0 if there is none.

        Raises:
            JournalError: its line is not one of ours.
        """
        line = self.last_line()
        try:
            return decode(line)[0] if line else 0
        except JournalError as error:
            where = f"last line (byte {self.committed - len(line)})"
            raise JournalError(f"{self._path}: {where}: {error.message}", _way_out(self._path)) from None

    def last_line(self) -> bytes:
        """Its newline included; reads nothing else."""
        return _last_line(self._file, self.committed)

    def append(self, lines: bytes) -> None:
        """Write whole lines and fsync them: all of them are durable when this returns, or none counts.

        Raises:
            OSError: ENOSPC, EIO, ...; nothing of ``lines`` counts as written, and the same lines may be tried again.
                ENOENT: somebody has removed the file, and nobody would ever read what is written to it.
                EBUSY: the lock failed us, and another writer has added lines.
        """
        if os.fstat(self._file).st_nlink == 0:
            raise OSError(errno.ENOENT, "it was removed", self._path)
        if self._dirty:  # a failed try may have left a part of its lines
            self._cut_back()
        elif self.has_grown():
            raise OSError(errno.EBUSY, "somebody else writes to it", self._path)
        self._dirty = True
        self._tried, view = 0, memoryview(lines)
        while self._tried < len(lines):
            self._tried += os.write(self._file, view[self._tried :])
        os.fsync(self._file)
        self._dirty = False
        self.committed += self._tried

    def has_grown(self) -> bool:
        """Whether somebody else has added to it."""
        return os.fstat(self._file).st_size > self.committed + (self._tried if self._dirty else 0)

    def close(self) -> None:
        os.close(self._file)

    def _cut_back(self) -> None:
        """Remove what a failed try has left.

        Raises:
            OSError: there is more than that: the lock failed us, and lines of another writer must not be cut off.
        """
        if self.has_grown():
            raise OSError(errno.EBUSY, "somebody else writes to it", self._path)
        os.ftruncate(self._file, self.committed)

    def _drop_torn_line(self) -> int:
        """Cut off what follows the last newline; returns the length of what stays."""
        size = os.fstat(self._file).st_size
        keep = _end_of_last_line(self._file, size)
        if keep != size:
            os.ftruncate(self._file, keep)
        return keep


def create(path: str, created: WorkflowCreated, t: str, mono: float) -> WorkflowState:
    """Write a new journal with its first line, durably; returns the state it stands for."""
    journal = Journal(path, new=True)
    try:
        journal.append(encode(1, t, mono, created))
    finally:
        journal.close()
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return new_state(created, t)


def _unreadable(path: str, number: int, offset: int, what: str) -> JournalError:
    return JournalError(f"{path}: line {number} (byte {offset}): {what}", _way_out(path))


def _way_out(path: str) -> str:
    workflow_id = os.path.basename(os.path.dirname(path))
    return (
        f"the file was changed by something else; 'torc-supervise repair {workflow_id}' keeps a copy of it, "
        "and everything in it that can be read"
    )


def _end_of_last_line(file: int, size: int) -> int:
    """Offset just behind the last newline before ``size``; 0 if there is none."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _last_line(file: int, end: int) -> bytes:
    if end == 0:
        return b""
    start = _end_of_last_line(file, end - 1)
    return os.pread(file, end - start, start)
