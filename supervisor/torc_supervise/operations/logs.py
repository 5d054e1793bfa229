"""Logs: the stdout and stderr files of jobs, printed or followed."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torc_supervise.errors import TorcError
from torc_supervise.operations import listing

LOOK_EVERY = 0.5
"""Seconds.  Shared file systems tell nobody about changes made on another host, so following is looking."""

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of one job.  ``stream``: "stdout", "stderr", or "output" where both go to one file."""

    job_id: int
    name: str
    stream: str
    path: str


def log_files(
    output: str, workflow_id: int | None, wanted: str | None, streams: Iterable[str]
) -> list[LogFile]:
    """The files of one job (by name or id) or of all jobs that were started.

    Raises:
        TorcError: no such job, or it was not started yet.
    """
    rows = listing.jobs(output, workflow_id)
    if wanted is not None:
        rows = [_find(rows, wanted)]
        if rows[0]["attempt_id"] is None:
            raise TorcError(f"job '{rows[0]['name']}' has not been started yet (it is {rows[0]['status']})")
    streams = tuple(streams)
    found = []
    for row in rows:
        out, err = row["stdout"], row["stderr"]
        if out is not None and out == err:
            found.append(LogFile(row["job_id"], row["name"], "output", out))
            continue
        for stream, path in (("stdout", out), ("stderr", err)):
            if path is not None and stream in streams:
                found.append(LogFile(row["job_id"], row["name"], stream, path))
    return found


def content(file: LogFile) -> Iterator[bytes]:
    """The bytes of a log file; nothing if it was never made."""
    try:
        with open(file.path, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except FileNotFoundError:
        return


def follow(files: list[LogFile], is_over: Callable[[], bool]) -> Iterator[tuple[LogFile, bytes]]:
    """What the files hold and what is added to them, until ``is_over`` and everything was read."""
    offsets = dict.fromkeys(files, 0)
    while True:
        over = is_over()  # asked before reading: what was written before the end is read after it
        for file in files:
            for chunk in _from(file.path, offsets[file]):
                offsets[file] += len(chunk)
                yield file, chunk
        if over:
            return
        select.select([], [], [], LOOK_EVERY)


def _from(path: str, offset: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        while chunk := os.pread(descriptor, _CHUNK, offset):
            offset += len(chunk)
            yield chunk
    finally:
        os.close(descriptor)


def _find(rows: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    by_name = [row for row in rows if row["name"] == wanted]
    by_id = [row for row in rows if str(row["job_id"]) == wanted]
    if by_name or by_id:
        return (by_name or by_id)[0]
    import difflib

    close = difflib.get_close_matches(wanted, [row["name"] for row in rows], n=1)
    raise TorcError(
        f"no job named '{wanted}'",
        f"did you mean '{close[0]}'?" if close else "'torc-supervise jobs' lists them",
    )
