"""Looking a workflow up without its lock: the live supervisor's answer, else the snapshot, else the journal.

Imports as little as it can: this is the path of ``status``.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, NamedTuple

import orjson

from torc_supervise.store import layout
from torc_supervise.store.layout import WorkflowFiles

ANSWER_WITHIN = (
    2.0  # seconds for a live supervisor; it answers in milliseconds unless the machine is in trouble
)


class Document(NamedTuple):
    """A status document.  ``text`` is None where only the head was asked for."""

    head: dict[str, Any]
    text: bytes | None


def look_up(output: str, workflow_id: int | None, *, with_jobs: bool) -> Document:
    """The status of a workflow, as fresh as it can be had from here.

    ``source`` in the head says where it is from: ``live``, ``snapshot`` or ``journal``; ``age_seconds`` how old it is.

    Raises:
        WorkflowNotFound: there is no such workflow.
        JournalError: nothing else could be read, and the journal is damaged.
    """
    files = layout.find(output, workflow_id)
    found = _snapshot_head(files)
    if found is None:
        return _from_journal(files, with_jobs=with_jobs)
    head, modified = found
    supervisor = head.get("supervisor") or {}
    if supervisor.get("control") and supervisor.get("host") == os.uname().nodename:
        answer = ask(supervisor["control"], {"ask": "status", "jobs": with_jobs})
        if answer is not None:
            return _document(answer, "live", 0.0, with_jobs=with_jobs)
        # It ran here and does not answer.  The journal knows more than a snapshot of up to a second before the end.
        return _from_journal(files, with_jobs=with_jobs)
    age = max(0.0, time.time() - modified)
    if not with_jobs:
        return Document(_stamped(head, "snapshot", age), None)
    with open(files.snapshot, "rb") as file:
        return _document(file.read(), "snapshot", age, with_jobs=True)


def ask(path: str, request: dict[str, Any]) -> bytes | None:
    """One request to a control socket; None if nobody answers (in time).

    Refuses a socket or directory that is not ours: anybody can make one in a shared temporary directory.
    """
    try:
        for place in (os.path.dirname(path), path):
            if os.lstat(place).st_uid != os.getuid():
                return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_WITHIN)
            connection.connect(path)
            connection.sendall(orjson.dumps(request) + b"\n")
            parts = []
            while part := connection.recv(1 << 20):
                parts.append(part)
            return b"".join(parts) or None
    except OSError:
        return None


def _snapshot_head(files: WorkflowFiles) -> tuple[dict[str, Any], float] | None:
    try:
        with open(files.snapshot, "rb") as file:
            return _head_of(file.readline()), os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return None


def _head_of(first_line: bytes) -> dict[str, Any]:
    marker = b',"jobs":[\n'
    text = first_line[: -len(marker)] + b"}" if first_line.endswith(marker) else first_line
    head: dict[str, Any] = orjson.loads(text)
    return head


def _document(
    text: bytes, source: str, age: float, *, with_jobs: bool, changes: dict[str, Any] | None = None
) -> Document:
    first, newline, rest = text.partition(b"\n")
    head = _stamped({**_head_of(first + newline), **(changes or {})}, source, age)
    if not with_jobs:
        return Document(head, None)
    return Document(head, orjson.dumps(head)[:-1] + b',"jobs":[\n' + rest)


def _stamped(head: dict[str, Any], source: str, age: float) -> dict[str, Any]:
    return {**head, "source": source, "age_seconds": round(age, 3)}


def _from_journal(files: WorkflowFiles, *, with_jobs: bool) -> Document:
    """Read everything back.  Slow for a huge workflow, but always right."""
    from torc_supervise.posix.identity import Identity, may_be_alive
    from torc_supervise.store import journal, view
    from torc_supervise.store.lock import read_owner

    state, _ = journal.replay(files.journal)
    owner = read_owner(files.lock)
    alive = (
        state.run_is_open
        and owner is not None
        and may_be_alive(Identity(owner.host, owner.boot_id, owner.pid, owner.start_ticks))
    )
    text = view.status_document(state, files, view.supervisor_fields(state, alive=alive))
    age = 0.0 if alive else max(0.0, time.time() - os.stat(files.journal).st_mtime)
    # If its supervisor died without a word: whoever runs or reinitializes it next records what was lost.
    changes = {"state": "terminated"} if state.run_is_open and not alive else {}
    return _document(text, "journal", age, with_jobs=with_jobs, changes=changes)
