"""Outsiders: passing a job's signals on to those of its processes that have left its group (P5)."""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGCONT, SIGKILL

from torc_supervise.posix.groups import signal_exactly
from torc_supervise.posix.lineage import Key
from torc_supervise.posix.reap import Reaper, Sweep

_SEVERAL = 0
"""Stands for the leader of what several jobs may have started."""


class Outsiders:
    """Each outsider gets each signal of its job once, also if it is found later than the signal was sent."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._asked: dict[int, int] = {}  # leader -> the last signal that its job was sent
        self._sent: dict[int, set[tuple[Key, int]]] = {}  # leader -> who got what

    def signal(self, signals: Mapping[int, int]) -> None:
        """Send to the outsiders of these jobs.

        Args:
            signals: leader -> signal that its group was sent.

        Raises:
            NotNowError: nobody can tell who they are; ask again soon.
        """
        self._asked |= signals
        for leader, signum in signals.items():
            if signum == SIGKILL:
                self._reaper.kill_cgroup(leader)
        self._pass_on(signals)

    def found(self, sweep: Sweep) -> None:
        """What a sweep has found gets what its job was sent before."""
        late = {leader: self._asked[leader] for leader in sweep.escaped.keys() & self._asked.keys()}
        if late:
            self._pass_on(late)

    def forget(self, leader: int) -> None:
        """The job is over."""
        self._asked.pop(leader, None)
        self._sent.pop(leader, None)

    def _pass_on(self, signals: Mapping[int, int]) -> None:
        for about, owner, signum in self._reaper.outside(signals, self._asked):
            key = (about.pid, about.start_ticks)
            sent = self._sent.setdefault(owner or _SEVERAL, set())
            if (key, signum) in sent or (key, signum) in self._sent.get(_SEVERAL, ()):
                continue
            if signal_exactly(about, signum):
                sent.add((key, signum))
                if signum != SIGKILL:
                    signal_exactly(about, SIGCONT)  # a stopped process acts on it, too (P14)
