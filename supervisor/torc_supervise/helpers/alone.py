"""Alone: a keeper that cannot write, whose supervisor has left or was killed (P12).

It goes on trying, as what it has is nowhere else, but not for ever, and nobody has to wait for it: who reads what the
supervisor prints (``| tee log``, an ssh) gets to its end.
"""

from __future__ import annotations

import os
import select
import socket
import time

from torc_supervise.helpers.speaker import Speaker
from torc_supervise.helpers.writer import Writer
from torc_supervise.store.layout import WorkflowFiles

LIMIT = 6 * 3600.0
"""Seconds for which a keeper goes on by itself."""

LOOK_EVERY = 1.0  # seconds between looks at supervisor and clock, only while something is not written

LAST_WORDS_LIMIT = 2.0  # seconds for a terminal that does not take them


def wait_for_writer(
    writer: Writer, parent: socket.socket, speaker: Speaker, files: WorkflowFiles, nonce: str
) -> bool:
    """Until everything is written; False where it was given up.  Without a limit while the supervisor waits with us."""
    until = None
    path = os.path.join(_temporary_directory(), f"torc-supervise-{files.workflow_id}-{nonce}.jsonl")
    while not writer.join(LOOK_EVERY):
        if until is None and _is_gone(parent):
            speaker.say(
                f"the supervisor is gone, and records of workflow {files.workflow_id} are not written yet: its keeper, "
                f"pid {os.getpid()} on {os.uname().nodename}, goes on trying for {LIMIT / 3600:.0f} hours; the "
                f"workflow is locked until then.  Make room for {files.journal}; 'kill -9 {os.getpid()}' gives "
                f"the records up.  What it cannot write in time will be in {path}"
            )
            speaker.finish(LAST_WORDS_LIMIT)
            _let_go_of_stdio()
            until = time.monotonic() + LIMIT
        elif until is not None and time.monotonic() >= until:
            _keep(writer.unwritten(), path)
            return False
    return True


def _temporary_directory() -> str:
    wanted = os.environ.get("TMPDIR", "")
    return wanted if wanted and os.access(wanted, os.W_OK | os.X_OK) else "/tmp"


def _is_gone(parent: socket.socket) -> bool:
    poll = select.poll()
    poll.register(parent, select.POLLRDHUP)
    return any(mask & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, mask in poll.poll(0))


def _let_go_of_stdio() -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.close(nothing)
    except OSError:
        return  # a full machine: the caller waits


def _keep(data: bytes, path: str) -> None:
    """For people to read: the journal goes on without it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        return  # there is no room anywhere, and nobody to tell
