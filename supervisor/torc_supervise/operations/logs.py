"""Logs: the stdout and stderr files of jobs, printed or followed."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from torc_supervise.errors import TorcError
from torc_supervise.operations import liveness
from torc_supervise.operations.lookup import look_up, unreadable
from torc_supervise.posix import host
from torc_supervise.store import layout
from torc_supervise.store.jsontext import loads
from torc_supervise.store.lock import read_owner

LOOK_EVERY = 0.5
"""Seconds.  Shared file systems tell nobody about changes made on another host, so following is looking."""

_CHUNK = 1 << 16


class LogFile(Struct, frozen=True):
    """One file of one job.  ``stream``: "stdout", "stderr", or "output" where both go to one file.

    ``job_id`` is 0 for the batch output of an allocation.
    """

    job_id: int
    name: str
    stream: str
    path: str


class Logs(Struct, frozen=True):
    """The files there are, and whether nothing will be added to them, nor to their number.

    ``batch``: Slurm job id of the newest allocation, whose batch script has printed something else.
    """

    files: list[LogFile]
    over: bool
    batch: str | None = None


def log_files(output: str, workflow_id: int | None, wanted: str | None, streams: Iterable[str]) -> Logs:
    """The files of one job (by name or id) or of all jobs that were started.

    Raises:
        TorcError: no such job, or it was not started yet.
    """
    document = look_up(output, workflow_id, with_jobs=True)
    head, rows = document.head, loads(document.text or b"{}")["jobs"]
    over = _nobody_works(layout.find(output, head["workflow_id"]), head["supervisor"])
    if wanted is not None:
        rows = [_find(rows, wanted)]
        if rows[0]["attempt_id"] is None:
            raise TorcError(f"job '{rows[0]['name']}' has not been started yet (it is {rows[0]['status']})")
        over = over or rows[0]["status"] != "running"
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
    allocations = head.get("allocations") or []
    return Logs(found, over, allocations[-1]["slurm_job_id"] if allocations else None)


def _nobody_works(files: layout.WorkflowFiles, supervisor: dict[str, Any] | None) -> bool:
    """Race: a run has the lock some moments before it is on record that there is one.

    Only of one on this host: of any other Slurm would have to be asked, at every look.
    """
    if supervisor is not None and supervisor["alive"]:
        return False
    try:
        owner = read_owner(files.lock)
    except OSError:  # it is for its owner alone
        return True
    return owner is None or owner.host != host.name() or not liveness.lives(owner)


def batch_files(output: str, workflow_id: int | None, wanted: str | None, streams: Iterable[str]) -> Logs:
    """What the batch script of an allocation printed: of the newest one, or of that with Slurm job id ``wanted``.

    Raises:
        TorcError: there is no such allocation.
    """
    head = look_up(output, workflow_id, with_jobs=False, ask_slurm=True).head
    rows = head.get("allocations") or []
    chosen = [row for row in rows if wanted in (None, row["slurm_job_id"])]
    if not chosen:
        there = ", ".join(row["slurm_job_id"] for row in rows)
        raise TorcError(
            f"workflow {head['workflow_id']} has no allocation {wanted}"
            if wanted
            else "no allocation is on record",
            f"there are: {there}" if there else "only what 'torc-supervise submit' has queued is",
        )
    row = chosen[-1]
    files = layout.find(output, workflow_id)
    found = []
    for stream, path, suffix in (("stdout", row["output"], "o"), ("stderr", row["error"], "e")):
        if stream in tuple(streams):
            path = path or files.batch_output(row["slurm_job_id"], suffix)
            found.append(LogFile(0, f"allocation {row['slurm_job_id']}", stream, path))
    return Logs(found, row["state"] not in ("queued", "running", "ending"))


def content(file: LogFile) -> Iterator[bytes]:
    """The bytes of a log file; nothing if it was never made.

    Raises:
        TorcError: it cannot be read.
    """
    try:
        with open(file.path, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(error) from error


def follow(look: Callable[[], Logs]) -> Iterator[tuple[LogFile, bytes]]:
    """What the files hold and what is added to them, until it is over and everything was read.

    Args:
        look: says anew each time which files there are; jobs may have started since.
    """
    offsets: dict[LogFile, int] = {}
    while True:
        logs = look()  # before reading: what was written before the end is read after it
        for file in logs.files:
            for chunk in _from(file.path, offsets.get(file, 0)):
                offsets[file] = offsets.get(file, 0) + len(chunk)
                yield file, chunk
        if logs.over:
            return
        select.select([], [], [], LOOK_EVERY)


def _from(path: str, offset: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(error) from error
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
