"""What the simulator has found, each as the shortest day that shows it."""

from __future__ import annotations

import pytest

from simulator.day import live
from simulator.plan import JobPlan, Plan

CANNOT_SAVE = JobPlan({"supports_termination": False})

FOUND = {
    "a job was started in the turn in which the end of the allocation moved to now": Plan(
        2900, (CANNOT_SAVE,), events=((0.0, "move_end", 0.0),)
    ),
    "a machine too full for the first keeper was a traceback": Plan(
        159, (CANNOT_SAVE,), events=((0.0, "refuse_forks", 5),), latency=0.5
    ),
}


@pytest.mark.parametrize("plan", FOUND.values(), ids=FOUND.keys())
def test_found_once(plan: Plan) -> None:
    assert live(plan).failure is None
