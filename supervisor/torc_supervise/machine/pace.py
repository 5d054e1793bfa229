"""Pace: how fast jobs are started, where each start is a request to somebody who has other things to do as well."""

from __future__ import annotations

STEPS_PER_SECOND = 20.0
"""Job steps that are started in a second.  slurmctld creates one in some milliseconds and serves a whole cluster; srun
itself starts no more than some 150 a second on the largest ones."""

BURST = 8
"""Job steps that may start at once after a quiet time."""

ROUNDING = 1e-6  # seconds


class Pace:
    """A token bucket.  ``due``: from when on one more start is allowed, monotonic seconds.

    Invariant: in any stretch of ``t`` seconds at most ``burst + rate * t`` starts are allowed.

    Args:
        rate: starts a second; infinite for no limit.
        burst: starts that may follow at once after a quiet time; 1 or more.
    """

    def __init__(self, rate: float = float("inf"), burst: int = 1) -> None:
        self._interval = 1.0 / rate
        self._slack = (burst - 1) * self._interval + ROUNDING
        self._paid_until = -float("inf")  # when the starts so far would be over at an even pace
        self.due = -float("inf")

    def take(self, now: float) -> None:
        """One start happens now."""
        self._paid_until = max(self._paid_until, now) + self._interval
        self.due = self._paid_until - self._slack
