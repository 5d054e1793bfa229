"""Steps: the kernel of a run whose jobs are job steps: what it starts and signals are their leaders.

A leader (``helpers.step_leader``) stands for a job on other nodes, and is alone in its group.  SIGKILL would leave the
task there with nothing but an end of file to go by; so the order to kill is another signal, which makes the leader see
it through: it ends when nothing of the job is left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from signal import SIGCONT, SIGIO, SIGKILL

from torc_supervise.exitstatus import STEP_LOST, Exit, Signaled, Usage
from torc_supervise.posix import groups
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.kernel import RealKernel
from torc_supervise.posix.reap import Sweep

KILL_STEP = SIGIO
"""Tells a leader to kill its job.  By default it ends a process, without a core file: one that has no handler yet has
started nothing."""


def signal_step(pgid: int, signum: int) -> Delivery:
    """Send to the leader of a job step; SIGKILL for its job, not for itself."""
    if signum != SIGKILL:
        return groups.signal_group(pgid, signum)
    delivery = groups.signal_group(pgid, KILL_STEP)
    groups.signal_group(pgid, SIGCONT)  # somebody may have stopped it
    return delivery


class StepKernel:
    """A kernel with a few things done otherwise; see :class:`torc_supervise.posix.kernel.Kernel`.

    All leaders have the reading end of one pipe for stdin.  This process and its keepers have the other end and never
    write: when both are dead, whatever killed them, the leaders see the end of file and end their jobs (P10).
    """

    def __init__(self, kernel: RealKernel) -> None:
        self._kernel = kernel
        self._lifeline, self._held = os.pipe()
        self.signal_process = kernel.signal_process
        self.signal_group = signal_step
        self.escaped = kernel.escaped
        self.watch = kernel.watch
        self.monotonic = kernel.monotonic
        self.wall = kernel.wall

    def spawn(
        self, argv: tuple[str, ...], environment: Mapping[str, str], cgroup: JobCgroup | None = None
    ) -> int:
        return self._kernel.spawn(argv, environment, cgroup, stdin=self._lifeline)

    def sweep(self) -> Sweep:
        found = _without_escaped(self._kernel.sweep())
        found.exited = [(pid, _known(exit_)) for pid, exit_ in found.exited]
        return found

    def look_again(self) -> Sweep:
        return _without_escaped(self._kernel.look_again())

    def signal_outside(self, signals: Mapping[int, int]) -> None:
        """An srun that gets SIGTERM kills its task at once: it is its leader's business."""

    def collect(self, pid: int) -> Usage | None:
        """What leader and srun have used is nobody's business."""
        self._kernel.collect(pid)
        return None


def _without_escaped(found: Sweep) -> Sweep:
    """An srun that has lost its leader ends by itself; what is left when the run ends is ended then."""
    for leader, pids in found.escaped.items():
        found.members[leader] = [pid for pid in found.members[leader] if pid not in pids]
    found.escaped = {}
    return found


def _known(exit_: Exit | None) -> Exit | None:
    return None if isinstance(exit_, Signaled) and exit_.signum == STEP_LOST else exit_
