"""Starts are limited where each is a request to somebody else, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.machine.pace import Pace


def taken(pace: Pace, now: float) -> int:
    count = 0
    while pace.due <= now and count < 1000:
        pace.take(now)
        count += 1
    return count


def test_a_burst_then_an_even_pace() -> None:
    pace = Pace(rate=20, burst=8)
    assert taken(pace, 100.0) == 8
    assert pace.due == pytest.approx(100.05, abs=1e-5)
    assert taken(pace, 100.04) == 0
    assert taken(pace, 100.06) == 1
    assert taken(pace, 200.0) == 8, "a quiet time fills the bucket, not more than that"


def test_without_a_limit_there_is_none() -> None:
    pace = Pace()
    assert taken(pace, 0.0) == 1000
    assert pace.due <= 0.0


@given(st.floats(0.5, 100), st.integers(1, 10), st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_no_stretch_of_time_has_more_than_burst_and_rate(rate: float, burst: int, gaps: list[float]) -> None:
    pace, now, starts = Pace(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        starts += [now] * taken(pace, now)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + rate * (starts[last] - begin) + 1e-3
