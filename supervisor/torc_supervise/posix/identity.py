"""Which process exactly: host, boot, pid and start time together never name two."""

from __future__ import annotations

import os

from msgspec import Struct

from torc_supervise.posix import host, procfs


class Identity(Struct, frozen=True):
    """``start_ticks``: clock ticks between boot and the start of the process (/proc/PID/stat, field 22)."""

    host: str
    boot_id: str | None
    pid: int
    start_ticks: int


def own_identity() -> Identity:
    return identity_of(os.getpid())


def identity_of(pid: int) -> Identity:
    """Of a living process on this host; ``start_ticks`` is 0 if it is gone."""
    about = procfs.stat(pid)
    return Identity(host.name(), procfs.boot_id(), pid, about.start_ticks if about else 0)


def may_be_alive(who: Identity) -> bool:
    """False only where it is certain that the process is gone; True for a process of another host."""
    if who.host != host.name():
        return True
    here = procfs.boot_id()
    if who.boot_id is not None and here is not None and who.boot_id != here:
        return False
    about = procfs.stat(who.pid)
    return about is not None and about.alive and about.start_ticks == who.start_ticks
