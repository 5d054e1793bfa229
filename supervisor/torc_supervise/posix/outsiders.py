"""Outsiders: passing a job's signals on to those of its processes that have left its group (P5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from signal import SIGCONT, SIGKILL

from torc_supervise.posix.groups import signal_exactly
from torc_supervise.posix.lineage import Key
from torc_supervise.posix.reap import NotNowError, Reaper, Sweep

LOOKED_AT_AT_A_TIME = 16
"""Jobs whose processes are looked at in a row; a signal that arrives meanwhile waits for these at most (P8)."""

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


class Unreached:
    """Jobs whose groups were signalled and whose outsiders were not yet: all groups come first, in a burst."""

    def __init__(
        self, signal_outside: Callable[[Mapping[int, int]], None], look_again_soon: Callable[[], None]
    ) -> None:
        self._signal_outside, self._look_again_soon = signal_outside, look_again_soon
        self._signals: dict[int, int] = {}  # leader -> the last signal that its group was sent
        self._postponed = False

    def __bool__(self) -> bool:
        """Whether there are some that could be reached right now."""
        return bool(self._signals) and not self._postponed

    def note(self, leader: int, signum: int) -> None:
        """A group was signalled."""
        if signum != SIGCONT:
            self._signals[leader] = signum

    def forget(self, leader: int) -> None:
        """The job is over."""
        self._signals.pop(leader, None)

    def reach_some(self) -> None:
        """Those of a few jobs, or none if they cannot be told now: then somebody is asked to try again soon."""
        some = dict(itertools.islice(self._signals.items(), LOOKED_AT_AT_A_TIME))
        if not some:
            return
        try:
            self._signal_outside(some)
        except NotNowError:
            self._postponed = True
            self._look_again_soon()
            return
        self._postponed = False
        for leader in some:
            del self._signals[leader]
