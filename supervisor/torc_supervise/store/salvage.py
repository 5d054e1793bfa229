"""Salvage: everything that can still be read of a damaged journal, in order and numbered anew.

A line that is no record is searched for whole records: a line that was cut short and written on has one at its end, two
lines that lost a newline are two.  What says the same thing twice counts once.  The books must come out even: a result
whose start was lost gets one, and an attempt whose result was lost before its run ended is recorded as lost, so that it
runs again.  What its dependents made of it is then made again as well; that costs time, and is never wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

from torc_supervise.errors import JournalError
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Ended, Status
from torc_supervise.store.journal import new_state
from torc_supervise.store.jsontext import dumps, loads
from torc_supervise.store.records import decode, encode

LOST_RESULT = "its result was lost when the journal was damaged"
MADE_UP_START = 0  # pid of a start that nobody recorded

_BEGINNING = b'{"t":"'
_Key = tuple[int, int, int]  # run, job, attempt


class Damage(Struct, frozen=True):
    """What is wrong at a place of the file.  ``line`` counts from 1, ``byte`` from 0."""

    line: int
    byte: int
    what: str


class Salvaged(Struct):
    """``lines``: the new journal.  ``kept``: records of the old one that are in it; ``damages``: why others are not."""

    lines: list[bytes] = []
    damages: list[Damage] = []
    kept: int = 0


def salvage(path: str) -> Salvaged:
    """Read what can be read.  No damages: the journal is fine, a torn last line is nothing that needs mending.

    Raises:
        JournalError: the first record is lost, which holds the workflow itself, or it is of a newer version.
        OSError: it cannot be read.
    """
    work = _Salvage()
    with open(path, "rb") as file:
        offset = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break  # torn: it was being written when its writer died
            work.take(number, offset, line)
            offset += len(line)
    if work.state is None:
        raise JournalError(
            f"{path}: the first record is lost, and it holds the workflow itself: nothing can be repaired",
            "restore the file from a copy, or run the workflow file again as a new workflow",
        )
    return work.result


class _Salvage:
    """Invariant: ``result.lines`` are records 1 to n that ``state`` has folded, one after another."""

    def __init__(self) -> None:
        self.result = Salvaged()
        self.state: WorkflowState | None = None
        self._seen: dict[int, int] = {}  # number in the old file -> hash of its line
        self._expected = 1
        self._unreadable = 0  # lines since the last record that was kept
        self._open: dict[_Key, tuple[str, float]] = {}  # started and not ended, with the times of the start
        self._ended: set[_Key] = set()

    def take(self, number: int, offset: int, line: bytes) -> None:
        try:
            decode(line)
            parts = [(0, line)]
        except JournalError as error:
            parts = list(_records_in(line))
            found = f"; {len(parts)} whole records were found in it" if parts else ""
            self._note(number, offset, f"{error.message}{found}")
            self._unreadable += not parts
        for within, part in parts:
            self._record(number, offset + within, part)

    def _record(self, number: int, offset: int, line: bytes) -> None:
        seq, t, mono, record = decode(line)
        said_before = self._seen.get(seq)
        if said_before == hash(line):
            self._note(number, offset, f"record {seq} a second time")
            return
        if self.state is None and not isinstance(record, r.WorkflowCreated):
            self._note(number, offset, "a record before the first one")
            return
        self._check_number(number, offset, seq, again=said_before is not None)
        self._seen[seq] = hash(line)
        try:
            self._keep(number, offset, line, t, mono, record)
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            event = record.event if record is not None else "unknown"
            self._note(number, offset, f"a {event} record that does not fit this workflow ({error!r})")

    def _check_number(self, number: int, offset: int, seq: int, *, again: bool) -> None:
        if again or seq < self._expected:
            self._note(number, offset, f"record {seq} where {self._expected} belongs")
        elif seq - self._expected > self._unreadable:
            last = f" to {seq - 1}" if seq - 1 > self._expected else ""
            self._note(number, offset, f"before it, record {self._expected}{last} is missing")
        self._expected = max(self._expected, seq + 1)
        self._unreadable = 0

    def _keep(
        self, number: int, offset: int, line: bytes, t: str, mono: float, record: r.Record | None
    ) -> None:
        if isinstance(record, r.JobStarted | r.JobEnded) and self.state is not None:
            self.state.job(record.job_id)  # there is one
        match record:
            case r.WorkflowCreated() if self.state is None:
                self.state = new_state(record, t)
                self._append(t, mono, record)
                self.result.kept += 1
                return
            case r.WorkflowCreated():
                raise ValueError("the workflow was created before")
            case None:  # of a newer version
                self._append_text(line)
                self.result.kept += 1
                return
            case r.JobStarted():
                if (key := _key(record)) in self._open or key in self._ended:
                    raise ValueError("the attempt has started before")
                self._open[key] = (t, mono)
            case r.JobEnded():
                if (key := _key(record)) in self._ended:
                    raise ValueError("the attempt has a result already")
                Status(record.status)
                if self._open.pop(key, None) is None:
                    self._note(number, offset, "the start of this attempt is lost")
                    start = r.JobStarted(*key, MADE_UP_START, MADE_UP_START)
                    self._fold(record.start_time or t, mono, start)
                self._ended.add(key)
            case r.RunStarted() | r.RunEnded() | r.Reinitialized():
                self._end_open_attempts(number, offset, t, mono)
            case _:
                pass
        self._fold(t, mono, record)
        self.result.kept += 1

    def _end_open_attempts(self, number: int, offset: int, t: str, mono: float) -> None:
        """A run ends with the results of all its attempts: those of these are lost."""
        for key, (start_time, _) in self._open.items():
            self._note(number, offset, f"before it, the result of attempt {key[2]} of job {key[1]} is lost")
            ended = r.JobEnded(
                *key, Status.TERMINATED.value, Ended.LOST.value, start_time=start_time, error=LOST_RESULT
            )
            self._ended.add(key)
            self._fold(t, mono, ended)
        self._open.clear()

    def _fold(self, t: str, mono: float, record: r.Record) -> None:
        assert self.state is not None
        self.state.apply(t, mono, record)
        self._append(t, mono, record)

    def _append(self, t: str, mono: float, record: r.Record) -> None:
        self.result.lines.append(encode(len(self.result.lines) + 1, t, mono, record))

    def _append_text(self, line: bytes) -> None:
        """A record of an event that we do not know, with nothing changed but its number."""
        data = loads(line)
        data["seq"] = len(self.result.lines) + 1
        self.result.lines.append(dumps(data) + b"\n")

    def _note(self, number: int, offset: int, what: str) -> None:
        self.result.damages.append(Damage(number, offset, what))


def _key(record: r.JobStarted | r.JobEnded) -> _Key:
    return record.run_id, record.job_id, record.attempt_id


def _records_in(line: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole records somewhere in a line that is none, each with its place."""
    starts = []
    at = line.find(_BEGINNING)
    while at >= 0:
        starts.append(at)
        at = line.find(_BEGINNING, at + 1)
    for start, end in pairwise([*starts, len(line)]):
        part = line[start:end].rstrip(b"\0\n") + b"\n"
        try:
            decode(part)
        except JournalError:
            continue
        yield start, part


def write(path: str, lines: list[bytes]) -> None:
    """A new file with these lines, for its owner alone, durable when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
