"""Process groups: sending signals to them."""

from __future__ import annotations

import os
import signal
from enum import Enum

from torc_supervise.posix import procfs
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.spawn import MACHINE_FULL


class Delivery(Enum):
    """What became of a signal.  A group that is gone is no error: only the reaper decides what is dead."""

    SENT = "sent"
    NO_SUCH_GROUP = "no such group"
    NOT_PERMITTED = "not permitted"


def signal_group(pgid: int, signum: int) -> Delivery:
    """killpg(2).  Refuses 0, 1 and negative numbers, which would mean somebody else altogether."""
    if pgid <= 1:
        raise ValueError(f"not a job's process group: {pgid}")
    return _deliver(-pgid, signum)


def signal_process(pid: int, signum: int) -> Delivery:
    """kill(2) of one process that is a child of ours and not yet reaped."""
    if pid <= 1:
        raise ValueError(f"not a job's process: {pid}")
    return _deliver(pid, signum)


def signal_descriptor(descriptor: int, signum: int) -> Delivery:
    """pidfd_send_signal(2): to the process that a pidfd holds, whoever has its number by now."""
    try:
        signal.pidfd_send_signal(descriptor, signum)
    except ProcessLookupError:
        return Delivery.NO_SUCH_GROUP
    except PermissionError:
        return Delivery.NOT_PERMITTED
    return Delivery.SENT


def signal_exactly(who: ProcessStat, signum: int) -> bool:
    """Signal this process and no other that has its number by now; returns whether that was tried.

    Without a descriptor to hold it by (P11) only a child of ours is signalled: nobody else takes its number away.
    """
    try:
        descriptor = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return True
    except OSError:
        if who.ppid != os.getpid():
            return False
        signal_process(who.pid, signum)
        return True
    try:
        now = procfs.stat(who.pid)
        if now is not None and now.start_ticks == who.start_ticks:
            signal_descriptor(descriptor, signum)
        return True
    except OSError as error:
        if error.errno not in MACHINE_FULL:
            raise
        return False  # it cannot be told apart now
    finally:
        os.close(descriptor)


def _deliver(target: int, signum: int) -> Delivery:
    try:
        os.kill(target, signum)
    except ProcessLookupError:
        return Delivery.NO_SUCH_GROUP
    except PermissionError:
        return Delivery.NOT_PERMITTED  # a setuid program took the group over
    return Delivery.SENT
