"""Wall time is for people: steps of hours, both ways, change no deadline and no duration (P13)."""

from __future__ import annotations

import itertools
from signal import SIGTERM

import pytest

from support.replaying import NEVER, Program, World, job
from torc_supervise.machine import records as r


class SteppedWorld(World):
    """Its wall clock jumps by hours at every look, as if somebody set it again and again."""

    steps = itertools.cycle(
        ("2026-01-31T12:00:00.000000Z", "2026-01-31T05:00:00.000000Z", "2026-02-01T01:00:00.000000Z")
    )

    def _at(self) -> None:
        self.supervision.at(self.now, next(self.steps))


JOBS = (job(1), job(2, supports_termination=False), job(3, depends_on=(1,)), job(4, sigterm_lead_seconds=7.0))
PROGRAMS = {
    1: Program(seconds=5.0),
    2: Program(seconds=NEVER),
    3: Program(seconds=NEVER, saves=3.0),
    4: Program(seconds=NEVER, ignores=True),
}


def story(kind: type[World], end: float | None) -> World:
    world = kind(*JOBS, programs=PROGRAMS, end=end).until(20.0)
    if end is None:
        world.signal(SIGTERM)
    return world.finish()


@pytest.mark.parametrize("end", [None, 3600.0], ids=["a signal", "wall time"])
def test_p13_steps_of_the_wall_clock_change_no_deadline_and_no_duration(end: float | None) -> None:
    steady, stepped = story(World, end), story(SteppedWorld, end)
    for number in range(1, 5):
        assert stepped.signals(number) == steady.signals(number)
        ours, theirs = stepped.result(number), steady.result(number)
        assert (ours.status, ours.ended, ours.exec_time_seconds) == (
            theirs.status,
            theirs.ended,
            theirs.exec_time_seconds,
        )
    assert [(at, type(record)) for at, record in stepped.records] == [
        (at, type(record)) for at, record in steady.records
    ]
    assert [x.wait_seconds for x in stepped.of(r.TerminationStarted)] == [
        x.wait_seconds for x in steady.of(r.TerminationStarted)
    ]
