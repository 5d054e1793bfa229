"""Random days: the whole program on a simulated machine, its promises checked after every event."""

from __future__ import annotations

import pytest

from simulator.day import live
from simulator.days import explain, live_through
from simulator.mutants import MUTANTS
from simulator.plan import draw
from simulator.shrink import rule

DAYS = 200  # for each of the ranges below


@pytest.mark.parametrize("first", [0, 100_000, 200_000])
def test_p1_to_p14_hold_on_random_days(first: int) -> None:
    tally = live_through(range(first, first + DAYS))
    assert not tally.failed, tally.failed
    assert tally.events > 100 * DAYS, "the days are too short to show anything"


def test_a_seed_is_the_same_day_every_time() -> None:
    for seed in range(20):
        once, again = live(draw(seed)), live(draw(seed))
        assert once.journal == again.journal
        assert once.printed == again.printed
        assert once.events == again.events


def test_days_have_everything_in_them() -> None:
    """What the journals of some hundred days tell: a day on which nothing happens breaks no rule."""
    told = b"".join(live(draw(seed)).journal for seed in range(300))
    for what in (
        *(b'"status":"%s"' % status for status in (b"completed", b"failed", b"terminated", b"canceled")),
        *(b'"ended":"%s"' % ended for ended in (b"exited", b"in_grace", b"killed", b"unkillable", b"lost")),
        *(b'"why":"%s"' % why for why in (b"signal", b"cancel", b"wall_time", b"runtime_limit", b"leftover")),
        *(
            b'"code":"%s"' % code
            for code in (b"keeper_died", b"machine_full", b"escaped", b"journal_not_written")
        ),
        b"supervisor_died",
        b"workflow_reinitialized",
    ):
        assert what in told, what


def test_a_failure_is_told_with_its_seed_and_a_shortest_list_of_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a bug that needs one signal the shortest day has one event, or none but the evening's."""
    bug = next(mutant for mutant in MUTANTS if mutant.name == "no SIGCONT after the termination signal")
    monkeypatch.setattr("simulator.days.live", lambda plan: live(plan, bug.patches))
    seed, report = next(
        (seed, report)
        for seed in range(100, 200)
        if (report := live(draw(seed), bug.patches)).failure is not None
    )
    assert report.failure is not None
    assert rule(report.failure) == "P14"
    told = explain(draw(seed), report.failure)
    assert f"seed {seed}: P14" in told
    (plan,) = [line for line in told.splitlines() if "Plan(" in line]
    assert plan.count("JobPlan(") == 1
    assert "events=" not in plan
