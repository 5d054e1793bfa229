"""Looking a workflow up without its lock: the live supervisor's answer, else the snapshot, else the journal.

Imports as little as it can: this is the path of ``status``.
"""

from __future__ import annotations

import json
import os
import stat
import time

from torc_supervise.errors import JournalError, TorcError
from torc_supervise.store import layout
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.snapshot import head_of

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any

    from torc_supervise.machine.state import WorkflowState

ANSWER_WITHIN = (
    2.0  # seconds for a live supervisor; it answers in milliseconds unless the machine is in trouble
)

_RUNNING = b'"status":"running"'  # in the line of a job; a name with these words has its quotes escaped


class Document:
    """A status document.  ``text`` is None where only the head was asked for."""

    __slots__ = ("head", "text")

    def __init__(self, head: dict[str, Any], text: bytes | None) -> None:
        self.head = head
        self.text = text


def look_up(output: str, workflow_id: int | None, *, with_jobs: bool, ask_slurm: bool = False) -> Document:
    """The status of a workflow, as fresh as it can be had from here.

    ``source`` in the head says where it is from: ``live``, ``snapshot`` or ``journal``; ``age_seconds`` how old it is.

    Args:
        ask_slurm: ask what became of its allocations, if there are any that may not be over: see
            :func:`torc_supervise.operations.whereabouts.merged`.

    Raises:
        WorkflowNotFound: there is no such workflow.
        JournalError: nothing else could be read, and the journal is damaged.
        TorcError: nothing else could be read, and the journal is not for this user.
    """
    files = layout.find(output, workflow_id)
    found = _look(files, with_jobs=with_jobs)
    return _with_slurm(files, found) if ask_slurm and _may_be_somewhere(found.head) else found


def _look(files: WorkflowFiles, *, with_jobs: bool) -> Document:
    found = _snapshot_head(files)
    if found is None:
        return _from_journal(files, with_jobs=with_jobs)
    head, modified = found
    supervisor = head.get("supervisor") or {}
    if supervisor.get("control") and supervisor.get("host") == os.uname().nodename:
        answer = ask(supervisor["control"], {"ask": "status", "jobs": with_jobs})
        if answer is not None:
            return _document(answer, "live", time.time(), with_jobs=with_jobs)
        # It ran here and does not answer.  The journal knows more than a snapshot of up to a second before the end.
        try:
            return _from_journal(files, with_jobs=with_jobs)
        except JournalError:
            raise
        except TorcError:
            pass  # it cannot be read: it is for its owner alone, and the snapshot for everybody
    if not with_jobs:
        return Document(_stamped(head, "snapshot", modified), None)
    with open(files.snapshot, "rb") as file:
        return _document(file.read(), "snapshot", modified, with_jobs=True)


def _may_be_somewhere(head: dict[str, Any]) -> bool:
    """Whether it has allocations at all; said without importing what knows more."""
    supervisor = head.get("supervisor") or {}
    return bool(head.get("allocations") or supervisor.get("slurm_job_id"))


def _with_slurm(files: WorkflowFiles, found: Document) -> Document:
    from torc_supervise.operations import whereabouts
    from torc_supervise.store.lock import read_owner

    wanted = whereabouts.wanted(found.head)
    if found.head["source"] == "live" and wanted == [found.head["supervisor"]["slurm_job_id"]]:
        return found  # it answers, and nothing else is on record
    if not wanted or not whereabouts.squeue_is_here():
        return found
    seen = whereabouts.ask(found.head, timeout=whereabouts.STATUS_WITHIN)
    owner = read_owner(files.lock)
    if found.head["source"] == "snapshot" and whereabouts.supervisor_is_gone(found.head, seen, owner):
        try:  # its last second is in the journal alone
            found = _from_journal(files, with_jobs=found.text is not None)
        except JournalError:
            raise
        except TorcError:
            pass  # the snapshot is for everybody, the journal is not
    head = whereabouts.merged(found.head, seen, owner)
    if found.text is None:
        return Document(head, None)
    return Document(head, _line_of(head) + found.text.partition(b"\n")[2])


def _line_of(head: dict[str, Any]) -> bytes:
    """The first line of a status document."""
    return _dumps(head)[:-1] + b',"jobs":[\n'


def _dumps(value: Any) -> bytes:
    """Not with msgspec, whose import takes longer than all that is written here."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def ask(path: str, request: dict[str, Any]) -> bytes | None:
    """One request to a control socket; None if nobody answers (in time).

    Refuses a socket or directory that is not ours: anybody can make one in a shared temporary directory.
    """
    import socket  # takes a fifth of the time that status may take, where nobody is to be asked

    try:
        directory, control = os.lstat(os.path.dirname(path)), os.lstat(path)
        if not (stat.S_ISDIR(directory.st_mode) and stat.S_ISSOCK(control.st_mode)):
            return None  # links, too, are not followed
        if {directory.st_uid, control.st_uid} != {os.geteuid()} or directory.st_mode & 0o077:
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_WITHIN)
            connection.connect(path)
            connection.sendall(_dumps(request) + b"\n")
            parts = []
            while part := connection.recv(1 << 20):
                parts.append(part)
            return b"".join(parts) or None
    except OSError:
        return None


def _snapshot_head(files: WorkflowFiles) -> tuple[dict[str, Any], float] | None:
    try:
        with open(files.snapshot, "rb") as file:
            return head_of(file.readline()), os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return None


def replay(files: WorkflowFiles) -> WorkflowState:
    """What the journal comes to.

    Raises:
        JournalError: it is damaged.
        TorcError: it cannot be read.
    """
    from torc_supervise.store import journal

    try:
        return journal.replay(files.journal)[0]
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> TorcError:
    """A file of a workflow that the system does not let us read."""
    hint = None
    if isinstance(error, PermissionError):
        hint = "a workflow's journal is for its owner alone; 'torc-supervise status' shows its snapshot to others"
    return TorcError(f"cannot read {error.filename}: {error.strerror}", hint)


def _document(
    text: bytes, source: str, as_of: float, *, with_jobs: bool, changes: dict[str, Any] | None = None
) -> Document:
    first, newline, rest = text.partition(b"\n")
    head = _stamped({**head_of(first + newline), **(changes or {})}, source, as_of)
    if not with_jobs:
        return Document(head, None)
    moment = _moment(head, as_of)
    lines = [_with_time(line, moment) if _RUNNING in line else line for line in rest.split(b"\n")]
    return Document(head, _line_of(head) + b"\n".join(lines))


def _stamped(head: dict[str, Any], source: str, as_of: float) -> dict[str, Any]:
    """Say where the head is from and how old it is, and how long its running jobs have been running."""
    for row in head["first_jobs"]:
        _add_time(row, _moment(head, as_of))
    return {**head, "source": source, "age_seconds": round(max(0.0, time.time() - as_of), 3)}


def _moment(head: dict[str, Any], as_of: float) -> float:
    """Until when its running jobs have run, as far as is known: now, unless their supervisor is gone."""
    return time.time() if (head.get("supervisor") or {}).get("alive") else as_of


def _with_time(line: bytes, moment: float) -> bytes:
    row = json.loads(line.removesuffix(b","))
    _add_time(row, moment)
    return _dumps(row) + (b"," if line.endswith(b",") else b"")


def _add_time(row: dict[str, Any], moment: float) -> None:
    """The document only changes when something happens, so how long a job has been running is for its reader to say."""
    if row["status"] != "running" or row["exec_time_seconds"] is not None or row["start_time"] is None:
        return
    from datetime import datetime

    started = datetime.fromisoformat(row["start_time"]).timestamp()
    row["exec_time_seconds"] = round(max(0.0, moment - started), 3)


def _from_journal(files: WorkflowFiles, *, with_jobs: bool) -> Document:
    """Read everything back.  Slow for a huge workflow, but always right."""
    from torc_supervise.posix.identity import Identity, may_be_alive
    from torc_supervise.store import view
    from torc_supervise.store.lock import read_owner

    state = replay(files)
    owner = read_owner(files.lock)
    alive = (
        state.run_is_open
        and owner is not None
        and may_be_alive(
            Identity(owner.host, owner.boot_id, owner.pid, owner.start_ticks, owner.pid_namespace)
        )
    )
    text = b"".join(view.status_document(state, files, view.supervisor_fields(state, alive=alive)))
    as_of = os.stat(files.journal).st_mtime
    # If its supervisor died without a word: whoever runs or reinitializes it next records what was lost.
    changes = {"state": "terminated"} if state.run_is_open and not alive else {}
    return _document(text, "journal", as_of, with_jobs=with_jobs, changes=changes)
