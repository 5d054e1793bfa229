"""What the kernel is to do when parents die (prctl(2)): who adopts our orphans, and who goes with us."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> str | None:
    """Orphans among our descendants become our children instead of init's (Linux 3.4).

    Not inherited by children, kept over exec.

    Returns:
        why it could not be had, or None.
    """
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def is_subreaper() -> bool:
    """Whether orphans among our descendants are known to become our children."""
    answer = ctypes.c_int(0)
    return _prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer)) is None and answer.value != 0


def die_with_parent() -> None:
    """SIGKILL when our parent ends, in whatever way, also where we are stopped and would never see it.

    For a helper with nothing to finish.  It was forked by its parent's main thread, whose end is what counts.
    Where it cannot be had, nothing is lost but that.

    Race: the parent is dead already.  Then its end of our channel is closed, and the first read says so.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: object) -> str | None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(option, value, 0, 0, 0) == 0:
            return None
        return os.strerror(ctypes.get_errno())
    except (OSError, AttributeError) as error:
        return str(error)
