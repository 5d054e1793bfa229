"""The two clocks: monotonic for deadlines, wall time for people (P13)."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache

_TICKS = os.sysconf("SC_CLK_TCK")  # in a second

_TRIES = 3

LONGEST_WAIT = 3600.0
"""Seconds that anything waits for at a time.  epoll and poll count milliseconds in an int, which is full after 24.8
days; who wakes up early looks at the clock and waits again."""


def monotonic() -> float:
    """Seconds of CLOCK_MONOTONIC: never steps, the same for all processes of this boot."""
    return time.monotonic()


def wall() -> str:
    """Now in UTC, ISO 8601 with microseconds and ``Z``."""
    return iso(time.time())


def epoch() -> float:
    """Seconds since 1970, UTC."""
    return time.time()


def iso(epoch_seconds: float) -> str:
    """Epoch seconds -> "2026-01-31T12:00:00.000000Z"."""
    second, microseconds = divmod(round(epoch_seconds * 1e6), 1_000_000)
    return f"{_iso_second(second)}.{microseconds:06d}Z"


@lru_cache(maxsize=8)
def _iso_second(second: int) -> str:
    """Many records share a second, and strftime takes as long as all the rest of writing one."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def moment(at: float | None = None) -> tuple[str, float]:
    """A moment as records have it: the time of day as text, and monotonic seconds.

    Args:
        at: monotonic seconds, now or earlier; None for now.
    """
    now = time.monotonic()
    mono = now if at is None else at
    return iso(epoch() - (now - mono)), mono


def boot_offset() -> float:
    """CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds: /proc/PID/stat counts start times on the former.

    Race: we are held up between the two clocks, and processes are taken for older or younger than they are.  What lies
    between two looks at one clock is off by no more than they are apart; of some tries the best counts.
    """
    best, offset = float("inf"), 0.0
    for _ in range(_TRIES):
        before, boot, after = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
        if after - before < best:
            best, offset = after - before, boot - (before + after) / 2
    return offset


def boot_ticks() -> int:
    """Clock ticks since boot, as /proc/PID/stat counts start times."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 1_000_000_000
