"""Process groups: sending signals to them."""

from __future__ import annotations

import os
import signal
from enum import Enum


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


def _deliver(target: int, signum: int) -> Delivery:
    try:
        os.kill(target, signum)
    except ProcessLookupError:
        return Delivery.NO_SUCH_GROUP
    except PermissionError:
        return Delivery.NOT_PERMITTED  # a setuid program took the group over
    return Delivery.SENT
