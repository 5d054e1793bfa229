"""Kernel: everything the loop asks of the operating system about jobs, behind one interface.

The tests have a second implementation, and both pass the same contract suite (tests/posix/test_kernel_contract.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from torc_supervise.exitstatus import Usage
from torc_supervise.posix import clock, groups
from torc_supervise.posix.descriptors import is_spare
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.reap import Reaper, Sweep
from torc_supervise.posix.spawn import spawn


class Kernel(Protocol):
    """Spawn, signal, sweep, collect, and the two clocks."""

    def spawn(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> int:
        """Start a leader of its own session and group; raises SpawnRefusedError or SpawnFailedError."""

    def signal_group(self, pgid: int, signum: int) -> Delivery:
        """Send to every member of the group."""

    def signal_process(self, pid: int, signum: int) -> Delivery:
        """Send to one leader."""

    def sweep(self) -> Sweep:
        """Who died since the last sweep, and who is left in groups whose leader is dead.

        Raises:
            NotNowError: the machine is too full to tell; ask again soon.  So do the next two.
        """

    def look_again(self) -> Sweep:
        """The members of such groups, anew."""

    def escaped(self) -> list[int]:
        """Living processes that left their job's group and were re-parented to us."""

    def collect(self, pid: int) -> Usage | None:
        """Reap a leader's zombie."""

    def watch(self, pid: int) -> int | None:
        """A descriptor that becomes readable when ``pid`` ends; None if it is gone, or none is to be had."""

    def monotonic(self) -> float: ...

    def wall(self) -> str: ...


class RealKernel:
    """Linux."""

    def __init__(self) -> None:
        self.reaper = Reaper()
        self.signal_group = groups.signal_group
        self.signal_process = groups.signal_process
        self.sweep = self.reaper.sweep
        self.look_again = self.reaper.look_again
        self.collect = self.reaper.collect
        self.escaped = self.reaper.escaped
        self.monotonic = clock.monotonic
        self.wall = clock.wall

    def spawn(self, argv: tuple[str, ...], environment: Mapping[str, str], stdin: int | None = None) -> int:
        pid = spawn(argv, environment, stdin)
        self.reaper.add(pid)
        return pid

    def watch(self, pid: int) -> int | None:
        """pidfd_open(2), Linux 5.3.  None, too, where descriptors become scarce.

        Race: the number was reused between our look at /proc and this call.  The stranger is then only watched, never
        signalled: its end makes us look again, no more.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        if is_spare(descriptor):
            os.close(descriptor)
            return None
        return descriptor
