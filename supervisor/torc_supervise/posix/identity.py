"""Which process exactly: host, boot, PID namespace, pid and start time together never name two."""

from __future__ import annotations

import os

from msgspec import Struct

from torc_supervise.posix import host, procfs


class Identity(Struct, frozen=True):
    """``start_ticks``: clock ticks between boot and the start of the process (/proc/PID/stat, field 22).

    ``pid_namespace``: inode of the one in which ``pid`` is its number; None where nobody knows it.
    """

    host: str
    boot_id: str | None
    pid: int
    start_ticks: int
    pid_namespace: int | None = None


def own_identity() -> Identity:
    return identity_of(os.getpid())


def identity_of(pid: int) -> Identity:
    """Of a living process that is seen here by that number; ``start_ticks`` is 0 if it is gone."""
    about = procfs.stat(pid)
    ticks = about.start_ticks if about else 0
    return Identity(host.name(), procfs.boot_id(), pid, ticks, procfs.pid_namespace())


def may_be_alive(who: Identity) -> bool:
    """False only where it is certain that the process is gone.

    True for a process of another host, or of another PID namespace: in a container its number is another.
    """
    if who.host != host.name():
        return True
    here = procfs.boot_id()
    if who.boot_id is not None and here is not None and who.boot_id != here:
        return False
    if is_elsewhere(who):
        return True
    about = procfs.stat(who.pid)
    return about is not None and about.alive and about.start_ticks == who.start_ticks


def is_elsewhere(who: Identity) -> bool:
    """Whether its number means nothing here: it lives, or lived, in another PID namespace."""
    return who.pid_namespace is not None and who.pid_namespace != procfs.pid_namespace()
