"""Pace: when the next job may start, where a start costs somebody else something, or the machine is full."""

from __future__ import annotations

from torc_supervise.machine.backoff import Backoff

STEPS_PER_SECOND = 20.0
"""Job steps that are started in a second.  slurmctld creates one in some milliseconds and serves a whole cluster; srun
itself starts no more than some 150 a second on the largest ones."""

BURST = 8
"""Job steps that may start at once after a quiet time."""

ROUNDING = 1e-6  # seconds


class Pace:
    """A token bucket for starts, and the growing pause while the machine is full (P11).

    Invariant: in any stretch of ``t`` seconds at most ``burst + rate * t`` starts are allowed.

    Args:
        rate: starts a second; infinite for no limit.
        burst: starts that may follow at once after a quiet time; 1 or more.
    """

    def __init__(self, rate: float = float("inf"), burst: int = 1) -> None:
        self._interval = 1.0 / rate
        self._slack = (burst - 1) * self._interval + ROUNDING
        self._paid_until = -float("inf")  # when the starts so far would be over at an even pace
        self._full = Backoff()
        self.succeeded = self._full.succeeded

    @property
    def due(self) -> float:
        """From when on one more start is allowed, monotonic seconds."""
        return max(self._full.until, self._paid_until - self._slack)

    def take(self, now: float) -> None:
        """One start happens now."""
        self._paid_until = max(self._paid_until, now) + self._interval

    def refused(self, now: float, errno: int) -> str | None:
        """The machine is full.  Returns what to say of it, None where that was said already.

        The rest of a burst, refused at the same time, says the same thing once more.
        """
        if now < self._full.until:
            return None
        pause = self._full.failed(now)
        if self._full.failures not in (1, 5, 20):
            return None
        return f"the machine is full (errno {errno}): next try in {pause:.1f} s"
