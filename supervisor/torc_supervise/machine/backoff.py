"""Backoff: a pause that doubles while the machine stays full (P11)."""

from __future__ import annotations

FIRST_PAUSE = 0.05  # seconds
LONGEST_PAUSE = 10.0


class Backoff:
    """Invariant: ``until`` is the earliest time for the next try, monotonic seconds."""

    def __init__(self) -> None:
        self.until = -float("inf")
        self.failures = 0

    def failed(self, now: float) -> float:
        """Note a failure; returns the length of the pause in seconds."""
        pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures, 20))
        self.failures += 1
        self.until = now + pause
        return pause

    def succeeded(self) -> None:
        self.failures = 0
