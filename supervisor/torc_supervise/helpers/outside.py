"""Outside: what others do to our workflow through the file system, looked at by a thread of the keeper.

A ``cancel`` on another host leaves a request beside the journal and, where there is Slurm, sends a signal that says so.
The look comes every now and then as well: the signal may not reach us (a batch script that does not exec, salloc, no
Slurm at all), and a file server shows new files late.  With each look we see whether the workflow is still ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK_EVERY = 20.0
"""Seconds between looks when nobody has nudged us.  One stat on the file server each."""

_AFTER_NUDGE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each look after a signal: NFS may show a file some seconds late that another host has made."""


class Outside:
    """Calls ``look`` now and then until it is finished."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._nudged = threading.Event()
        self._leaving = False
        self._thread = threading.Thread(target=self._work, name="outside", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        """Look now, and a few times soon."""
        self._nudged.set()

    def finish(self, limit: float) -> None:
        """Stop looking; waits at most ``limit`` seconds, the file system may hang."""
        self._leaving = True
        self._nudged.set()
        self._thread.join(limit)

    def _work(self) -> None:
        pauses = list(_AFTER_NUDGE)  # a request may have been left before we began
        while True:
            if self._nudged.wait(pauses.pop(0) if pauses else LOOK_EVERY):
                self._nudged.clear()
                pauses = list(_AFTER_NUDGE[1:])
            if self._leaving:
                return
            self._look()
