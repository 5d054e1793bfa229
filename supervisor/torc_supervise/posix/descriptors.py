"""File descriptors: how many this process may have open, and how many it may spend."""

from __future__ import annotations

import resource

WANTED = 65536
"""Soft limit on open files that is enough for everything: one descriptor a watched process, and a few for us."""

SPARE = 32
"""Descriptors that are kept for looks at /proc, new helpers and their sockets."""


def raise_limit() -> int | None:
    """Raise the soft limit towards the hard one; returns the old one where it was raised.

    It is inherited: jobs are given the old one back (``posix.shell``), because a program that uses select(2) breaks on
    numbers above 1023, and one that closes everything up to its limit takes long.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return None  # never mind: looks are taken more often then
    return soft


def is_spare(descriptor: int) -> bool:
    """Whether nothing long-lived may have this number.  The kernel gives the lowest first: nearly all are in use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft - SPARE
