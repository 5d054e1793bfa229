"""When a job is asked, and when SIGKILL follows (DESIGN section 4, P13: monotonic seconds only)."""

from __future__ import annotations

from signal import SIGTERM

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from torc_supervise.machine import deadlines
from torc_supervise.machine.deadlines import WallTime, fit, grace_of, kill_at, own_ask, refit, scaled
from torc_supervise.machine.phases import NEVER, Policy
from torc_supervise.machine.status import StopReason
from torc_supervise.workflow.model import ExecutionConfig, Job

SAVES = Policy(SIGTERM, supports_termination=True, grace=30.0)
STATED = replace(SAVES, grace_stated=True)
CANNOT = Policy(SIGTERM)
WALL = WallTime(end=3600.0, headroom=60.0)
UNKNOWN = WallTime()


@pytest.mark.parametrize(
    ("policy", "now", "wall", "expected"),
    [
        (SAVES, 100.0, UNKNOWN, 130.0),  # without a known end: now + grace
        (STATED, 100.0, UNKNOWN, 130.0),
        (SAVES, 100.0, WALL, 3540.0),  # with one: as late as the headroom allows
        (STATED, 100.0, WALL, 130.0),  # a stated grace shortens it
        (replace(STATED, grace=9000.0), 100.0, WALL, 3540.0),  # and never lengthens it
        (SAVES, 3505.0, WALL, 3540.0),
        (SAVES, 3530.0, WALL, 3560.0),  # so late that headroom is used: the grace
        (SAVES, 3580.0, WALL, 3590.0),  # or half of what is left
        (STATED, 3580.0, WALL, 3590.0),
        (SAVES, 3600.0, WALL, 3600.0),
        (SAVES, 4000.0, WALL, 4000.0),  # after the end: at once
    ],
)
def test_kill_at(policy: Policy, now: float, wall: WallTime, expected: float) -> None:
    assert kill_at(policy, now, wall) == expected


@pytest.mark.parametrize(
    ("policy", "limit", "wall", "expected"),
    [
        (SAVES, None, UNKNOWN, (NEVER, StopReason.WALL_TIME, NEVER)),
        (SAVES, None, WALL, (3510.0, StopReason.WALL_TIME, 3540.0)),
        (CANNOT, None, WALL, (3540.0, StopReason.WALL_TIME, 3540.0)),
        (SAVES, 50.0, UNKNOWN, (150.0, StopReason.RUNTIME_LIMIT, 180.0)),
        (SAVES, 50.0, WALL, (150.0, StopReason.RUNTIME_LIMIT, 180.0)),
        (SAVES, 3409.0, WALL, (3509.0, StopReason.RUNTIME_LIMIT, 3539.0)),
        (SAVES, 3410.0, WALL, (3510.0, StopReason.WALL_TIME, 3540.0)),
        (SAVES, 9999.0, WALL, (3510.0, StopReason.WALL_TIME, 3540.0)),
        (CANNOT, 3430.0, WALL, (3530.0, StopReason.RUNTIME_LIMIT, 3540.0)),
    ],
)
def test_own_ask_of_a_job_started_at_100(
    policy: Policy, limit: float | None, wall: WallTime, expected: tuple[float, StopReason, float]
) -> None:
    assert own_ask(policy, 100.0, wall, limit) == expected


@pytest.mark.parametrize(
    ("left", "headroom", "scale"),
    [
        (3600.0, 60.0, 1.0),
        (180.0, 60.0, 1.0),
        (90.0, 30.0, 1.0),  # the headroom gives way first
        (60.0, 10.0, 1.0),
        (30.0, 3.0, 17 / 30),  # then the grace
        (0.0, 0.0, 0.0),
        (-5.0, 0.0, 0.0),
    ],
)
def test_a_short_allocation_scales_headroom_and_grace(left: float, headroom: float, scale: float) -> None:
    wall = fit(1000.0, 1000.0 + left, 60.0, 30.0)
    assert (wall.headroom, wall.grace_scale) == (pytest.approx(headroom), pytest.approx(scale))


def test_an_unknown_end_scales_nothing() -> None:
    assert fit(1000.0, NEVER, 60.0, 30.0) == WallTime()
    assert not WallTime().known
    assert WallTime().kill_at == NEVER
    assert scaled(SAVES, WallTime()) is SAVES


def test_a_jobs_own_lead_counts_as_stated() -> None:
    job = Job(1, "a", "true")
    assert grace_of(job, ExecutionConfig()) == (30.0, False)
    assert grace_of(job, ExecutionConfig(sigterm_lead_seconds=9.0, sigterm_lead_stated=True)) == (9.0, True)
    assert grace_of(replace(job, sigterm_lead_seconds=0.0), ExecutionConfig()) == (0.0, True)


MOMENTS = st.floats(0, 1e6)
GRACES = st.floats(0, 1e5)
POLICIES = st.builds(
    Policy,
    st.just(int(SIGTERM)),
    supports_termination=st.booleans(),
    grace=GRACES,
    grace_stated=st.booleans(),
)
WALLS = st.builds(fit, MOMENTS, MOMENTS, st.floats(0, 1e4), GRACES)


@given(POLICIES, MOMENTS, WALLS)
def test_kill_at_is_never_after_the_end_and_never_in_the_past(
    policy: Policy, now: float, wall: WallTime
) -> None:
    at = kill_at(policy, now, wall)
    assert at <= max(now, wall.end) + 1e-6
    assert at >= now


@given(POLICIES, MOMENTS, WALLS)
def test_a_job_gets_its_grace_or_half_of_what_is_left(policy: Policy, now: float, wall: WallTime) -> None:
    assert kill_at(policy, now, wall) - now >= min(policy.grace, max(0.0, wall.end - now) / 2) - 1e-6


@given(POLICIES, MOMENTS, st.floats(0, 1e5), WALLS)
def test_p6_asking_again_later_never_lengthens_a_grace_that_the_wall_sets(
    policy: Policy, now: float, later: float, wall: WallTime
) -> None:
    first = kill_at(policy, now, wall)
    again = min(first, kill_at(policy, now + later, wall))
    assert again <= first


@given(POLICIES, MOMENTS, MOMENTS, st.floats(0, 1e4), GRACES)
def test_scaled_is_never_negative_and_headroom_and_grace_leave_half_of_the_time(
    policy: Policy, now: float, end: float, headroom: float, longest: float
) -> None:
    wall = fit(now, end, headroom, longest)
    assert scaled(policy, wall).grace >= 0.0
    assert wall.headroom >= 0.0
    assert 0.0 <= wall.grace_scale <= 1.0
    used = wall.headroom + longest * wall.grace_scale
    assert used <= max(0.0, end - now) * deadlines.LARGEST_SHARE + 1e-6


@given(GRACES, GRACES, MOMENTS, WALLS)
def test_jobs_with_a_longer_lead_are_asked_no_later(
    one: float, other: float, started: float, wall: WallTime
) -> None:
    short, long = sorted([one, other])
    asks = [own_ask(replace(SAVES, grace=grace), started, wall, None)[0] for grace in (short, long)]
    assert asks[1] <= asks[0]
    assert own_ask(CANNOT, started, wall, None)[0] >= asks[0]


@given(POLICIES, MOMENTS, st.none() | st.floats(0, 1e5), WALLS)
def test_a_job_is_asked_before_it_is_killed_and_killed_before_the_end(
    policy: Policy, started: float, limit: float | None, wall: WallTime
) -> None:
    asked, why, killed = own_ask(policy, started, wall, limit)
    assert asked <= killed <= wall.end
    assert why in (StopReason.WALL_TIME, StopReason.RUNTIME_LIMIT)
    if limit is None:
        assert why is StopReason.WALL_TIME
    else:
        assert asked <= max(started + limit, asked if why is StopReason.WALL_TIME else 0.0)


# -- an end that moves ------------------------------------------------------------------------------------------

BEFORE = fit(0.0, 3600.0, 60.0, 30.0)


@pytest.mark.parametrize(
    ("now", "end", "expected"),
    [
        (100.0, 7200.0, WallTime(7200.0, 60.0)),  # later
        (3590.0, 3601.0, WallTime(3601.0, 60.0)),  # late, and only a little: as before
        (100.0, 1800.0, WallTime(1800.0, 60.0)),  # earlier, with time enough
        (100.0, NEVER, WallTime()),  # no end any more
        (1720.0, 1800.0, WallTime(1800.0, 50.0)),  # so near that the headroom gives way to the grace
        (1765.0, 1800.0, WallTime(1800.0, 5.0)),
    ],
)
def test_refit(now: float, end: float, expected: WallTime) -> None:
    assert refit(0.0, now, BEFORE, end, 60.0, 30.0) == expected


@given(MOMENTS, MOMENTS, MOMENTS, MOMENTS, st.floats(0, 1e4), GRACES)
def test_an_end_that_moved_leaves_nothing_negative_and_what_grace_there_is_time_for(
    begun: float, later: float, end: float, new_end: float, headroom: float, longest: float
) -> None:
    now = begun + later
    wall = refit(begun, now, fit(begun, end, headroom, longest), new_end, headroom, longest)
    assert wall.end == new_end
    assert 0.0 <= wall.headroom <= headroom + 1e-6
    assert 0.0 <= wall.grace_scale <= 1.0
    if now < new_end < end:
        left = new_end - now
        assert wall.kill_at - now >= min(longest, left / 2) - 1e-6 or wall.grace_scale < 1.0
