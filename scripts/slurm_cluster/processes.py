"""Which processes belong to a cluster, and their end."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

LIMIT = 20.0
"""Seconds after which we stop waiting for processes that SIGKILL does not end."""


def descendants(ancestor: int) -> list[int]:
    """All that live below a process.  Below a subreaper that is all that it ever started."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry.name}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
        else:
            # A zombie has no children, and needs no signal.
            continue
    found = list(children.get(ancestor, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def marked(conf: Path) -> list[int]:
    """All whose environment names this cluster's configuration: the way to find them when their owner is gone."""
    needle = b"SLURM_CONF=" + os.fsencode(conf)
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry.name}/environ").read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        if needle in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def host_of(pid: int) -> str | None:
    """The host that a process believes to be on: an identity of its UTS namespace; None if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return None


def kill(pids: Iterable[int], signum: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def wait_for_end(pidfds: Iterable[int], seconds: float) -> bool:
    """Wait until all processes behind these descriptors have ended; False if the time was not enough."""
    left = set(pidfds)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for fd in left:
        poll.register(fd, select.POLLIN)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            poll.unregister(fd)
            left.discard(fd)
    return not left


def end(pids: Iterable[int], seconds: float = LIMIT) -> bool:
    """SIGKILL processes and wait for their end; False if some are still there."""
    pidfds = []
    for pid in pids:
        try:
            pidfds.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(pidfds[-1], signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    try:
        return wait_for_end(pidfds, seconds)
    finally:
        for fd in pidfds:
            os.close(fd)
