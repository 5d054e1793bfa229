"""Inspector: looks at the files that jobs declare, in a thread of its own because a file system may hang.

Whether a checkpoint was saved after the signal is told by comparing the file with what it was when the signal went out
(inode, size, modification time), and by its modification time against ours.  Either is proof; the first holds on file
servers whose clock differs from this host's, the second where the job was faster than our first look.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from torc_supervise.helpers.messages import Inspection
from torc_supervise.machine.events import Verified

MTIME_TOLERANCE = 0.01
"""Seconds.  The kernel stamps files with a clock that ticks every few milliseconds, so a file that was written just
after the signal may look a little older than it."""

Deletion = frozenset[str]
_Identity = tuple[int, int, int]  # inode, size, mtime in ns


class Inspector:
    """One thread; questions are answered in order through ``answer``."""

    def __init__(self, answer: Callable[[int, Verified], None]) -> None:
        self._answer = answer
        self._questions: queue.SimpleQueue[Inspection | tuple[int, str] | Deletion | None] = (
            queue.SimpleQueue()
        )
        self._before: dict[int, _Identity | None] = {}
        self._thread = threading.Thread(target=self._work, name="inspector", daemon=True)
        self._thread.start()

    def ask(self, question: Inspection) -> None:
        self._questions.put(question)

    def signaled(self, job_id: int, checkpoint: str) -> None:
        """The job was just asked to end: remember its checkpoint as it is now."""
        self._questions.put((job_id, checkpoint))

    def delete(self, paths: Deletion) -> None:
        """Remove the stdio files of a job that completed (``delete_on_success``)."""
        self._questions.put(paths)

    def finish(self, limit: float) -> None:
        """Do what is left, for at most ``limit`` seconds: the file system may hang."""
        self._questions.put(None)
        self._thread.join(limit)

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            if isinstance(question, Inspection):
                self._answer(question.job_id, self._inspect(question))
            elif isinstance(question, frozenset):
                for path in question:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            else:
                job_id, checkpoint = question
                self._before[job_id] = _identity(checkpoint)

    def _inspect(self, question: Inspection) -> Verified:
        missing, seen = [], []
        for name, path in question.outputs:
            identity = _identity(path)
            if identity is None:
                missing.append(name)
            else:
                seen.append((name, identity[2]))
        return Verified(tuple(missing), tuple(seen), self._saved(question))

    def _saved(self, question: Inspection) -> bool | None:
        if question.checkpoint is None or question.signaled_at is None:
            return None
        now = _identity(question.checkpoint)
        if now is None:
            return False
        if question.job_id in self._before and self._before.pop(question.job_id) != now:
            return True
        return now[2] >= (question.signaled_at - MTIME_TOLERANCE) * 1e9


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
