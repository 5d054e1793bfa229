"""Child subreaper: orphans among our descendants become our children instead of init's (prctl(2), Linux 3.4)."""

from __future__ import annotations

import ctypes
import os

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> str | None:
    """Ask for it; returns why it could not be had, or None.  Not inherited by children, kept over exec."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
            return None
        return os.strerror(ctypes.get_errno())
    except (OSError, AttributeError) as error:
        return str(error)
