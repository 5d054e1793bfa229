"""Threads on a machine that may be too full for one (P11).

clone(2) fails with EAGAIN where the user, the cgroup or the machine has as many processes and threads as it may have,
and CPython (3.11) makes a RuntimeError of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TRY_AGAIN_AFTER = 0.2  # seconds


def begin(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a daemon thread; None where there is no room for one."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


class LateThread:
    """One that begins when it is made, or else as soon as there is room for it and somebody waits for it."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work, self._name = work, name
        self._thread = begin(work, name)

    def join(self, until: float) -> bool:
        """Wait for its end.

        Args:
            until: monotonic seconds.

        Returns:
            whether it has begun at all.
        """
        pause = threading.Event()
        while self._thread is None and (left := until - time.monotonic()) > 0.0:
            pause.wait(min(TRY_AGAIN_AFTER, left))
            self._thread = begin(self._work, self._name)
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        return self._thread is not None
