"""Interrupts: which Ctrl-C is the second one."""

from __future__ import annotations

SECOND_AFTER = 0.2
"""Seconds.  A second SIGINT counts as "kill now" only after this: a terminal and a wrapper (srun, a launcher) may
both pass on one Ctrl-C, and those two arrive within milliseconds."""


class Interrupts:
    """Measured from the first one: of a key that is held down, each comes right after the one before."""

    def __init__(self) -> None:
        self._first: float | None = None  # monotonic seconds

    def is_second(self, now: float) -> bool:
        """A SIGINT has come at ``now``."""
        if self._first is None:
            self._first = now
            return False
        return now - self._first >= SECOND_AFTER
