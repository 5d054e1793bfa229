"""Threads that may not be to be had."""

from __future__ import annotations

import threading
from collections.abc import Callable


def begin(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a thread that nobody need wait for.

    Returns:
        None where the machine is too full for one (P11): clone(2) fails with EAGAIN where the user, the cgroup or the
        machine has as many as it may have, and CPython (3.11) makes a RuntimeError of it.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
