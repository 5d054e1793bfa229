"""What the simulator has found, each as the shortest day that shows it."""

from __future__ import annotations

import pytest

from simulator.day import live
from simulator.plan import JobPlan, Plan
from simulator.programs import Child, Program

CANNOT_SAVE = JobPlan({"supports_termination": False})

FOUND = {
    "a job was started in the turn in which the end of the allocation moved to now": Plan(
        2900, (CANNOT_SAVE,), events=((0.0, "move_end", 0.0),)
    ),
    "a machine too full for the first keeper was a traceback": Plan(
        159, (CANNOT_SAVE,), events=((0.0, "refuse_forks", 5),), latency=0.5
    ),
    "a last will signalled a stranger that had got the number of a job": Plan(
        1071, (JobPlan({"supports_termination": True}),), events=((3.0, "signal", 15),), fatal=22, latency=0.5
    ),
    "a last will killed a stranger that had got the number of a job": Plan(
        1189,
        (
            JobPlan(
                {"supports_termination": True},
                Program(on_signal="saves", saving=1.0, children=(Child(seconds=12.0, way="setsid"),)),
            ),
        ),
        events=((3.0, "kill_supervisor", None),),
        lead=5.0,
        latency=0.5,
    ),
    "a new keeper confirmed what the last one had written and was killed before it could fsync": Plan(
        74,
        (
            JobPlan({"supports_termination": True}),
            JobPlan(
                {"supports_termination": False, "runtime": 3.0},
                Program(seconds=1.0, on_signal="ignores", children=(Child(seconds=5.0),)),
            ),
        ),
        lead=0.0,
        num_cpus=1,
        fatal_keepers=(126,),
    ),
    "what a leader had left behind was killed without having been asked": Plan(
        3000543,
        (
            JobPlan(
                {"supports_termination": True, "signal_scope": "leader"},
                Program(children=(Child(),)),
            ),
        ),
        events=((0.5, "kill_both", None),),
    ),
    "an attempt was adopted while the result that it had waited for was lost": Plan(
        5001891,
        (
            JobPlan({"supports_termination": True}),
            JobPlan({"supports_termination": True, "depends_on": (1,)}, Program(seconds=100.0)),
        ),
        events=((5.0, "freeze_keeper", 50.0), (31.0, "kill_both", None)),
    ),
    "who took a lock over was killed, and with him went the nonce of a run that was not on record": Plan(
        193,
        (
            JobPlan(
                {"supports_termination": False}, Program(children=(Child(way="daemon", on_signal="saves"),))
            ),
        ),
        events=((1.0, "open", 22), (3.0, "kill_both", None)),
        latency=0.5,
    ),
}


@pytest.mark.parametrize("plan", FOUND.values(), ids=FOUND.keys())
def test_found_once(plan: Plan) -> None:
    assert live(plan).failure is None
