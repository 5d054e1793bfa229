"""What is going on: attempts without a result, and who runs the workflow."""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.machine import records as r


class LiveAttempt(Struct, frozen=True, gc=False):
    """An attempt that was started and has no result yet.

    ``asked_at`` and ``asked_why`` are of the first signal that it was sent; its grace is counted from there, whoever
    goes on with it (P6).
    """

    started: r.JobStarted
    start_time: str  # UTC ISO 8601
    mono: float  # seconds on the supervisor's monotonic clock
    asked_at: float | None = None  # on the same clock
    asked_why: str | None = None  # a StopReason
    last_signal: str | None = None  # its name


class SupervisorInfo(Struct, frozen=True, gc=False):
    """Who runs, or last ran, the workflow."""

    record: r.RunStarted
    started_at: str
    ended: r.RunEnded | None = None
