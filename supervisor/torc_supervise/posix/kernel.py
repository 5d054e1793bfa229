"""Kernel: everything the loop asks of the operating system about jobs, behind one interface.

The tests have a second implementation, and both pass the same contract suite (tests/posix/test_kernel_contract.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Protocol

from torc_supervise.exitstatus import Usage
from torc_supervise.posix import clock, groups
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.descriptors import is_spare
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.marks import Mark
from torc_supervise.posix.outsiders import Outsiders
from torc_supervise.posix.reap import NotNowError, Reaper, Sweep
from torc_supervise.posix.spawn import spawn


class Kernel(Protocol):
    """Spawn, signal, sweep, collect, and the two clocks."""

    def spawn(
        self, argv: tuple[str, ...], environment: Mapping[str, str], cgroup: JobCgroup | None = None
    ) -> int:
        """Start a leader of its own session and group; raises SpawnRefusedError or SpawnFailedError.

        Args:
            cgroup: that the leader moves to.
        """

    def signal_group(self, pgid: int, signum: int) -> Delivery:
        """Send to every member of the group."""

    def signal_process(self, pid: int, signum: int) -> Delivery:
        """Send to one leader."""

    def signal_outside(self, signals: Mapping[int, int]) -> None:
        """Send to those processes of jobs that have left their job's group, and to those that are found later.

        Args:
            signals: leader -> the signal that its group was sent.

        Raises:
            NotNowError: they cannot be told now; ask again soon.  So do the next three.
        """

    def sweep(self) -> Sweep:
        """Who died since the last sweep, and who is left of jobs whose leader is dead."""

    def look_again(self) -> Sweep:
        """The members of such jobs, anew."""

    def escaped(self) -> list[int]:
        """Living orphans that came from jobs and belong to none that is under way."""

    def collect(self, pid: int) -> Usage | None:
        """Reap a leader's zombie."""

    def watch(self, pid: int) -> int | None:
        """A descriptor that becomes readable when ``pid`` ends; None if it is gone, or none is to be had."""

    def monotonic(self) -> float: ...

    def wall(self) -> str: ...


class RealKernel:
    """Linux.  ``stdin``: of all jobs, None to leave it."""

    def __init__(self) -> None:
        self.stdin: int | None = None
        self.reaper = Reaper()
        self.signal_group = groups.signal_group
        self.signal_process = groups.signal_process
        self._outsiders = Outsiders(self.reaper)
        self.signal_outside = self._outsiders.signal
        self.escaped = self.reaper.escaped
        self.monotonic = clock.monotonic
        self.wall = clock.wall

    def spawn(
        self,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        cgroup: JobCgroup | None = None,
        *,
        stdin: int | None = None,
    ) -> int:
        since = clock.boot_ticks()
        pid = spawn(argv, environment, self.stdin if stdin is None else stdin)
        mark = Mark.of(environment)
        self._outsiders.forget(pid)  # whoever had the number before
        self.reaper.add(pid, mark, since, cgroup)
        return pid

    def sweep(self) -> Sweep:
        return self._passed_on(self.reaper.sweep())

    def look_again(self) -> Sweep:
        return self._passed_on(self.reaper.look_again())

    def collect(self, pid: int) -> Usage | None:
        self._outsiders.forget(pid)
        return self.reaper.collect(pid)

    def _passed_on(self, sweep: Sweep) -> Sweep:
        """Race: the leader died of its signal before its processes outside of the group were looked for, and took the
        way to them along.  Now that they came to us they get what their job got.
        Test: test_escapees.py::test_p5_an_escapee_is_asked_with_its_job_and_may_save.
        """
        if sweep.escaped:
            # Not now: whoever ends next has us look anew, and SIGKILL follows anyhow.
            with contextlib.suppress(NotNowError):
                self._outsiders.found(sweep)
        return sweep

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
