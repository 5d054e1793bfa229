"""Random workflows x random events.  The rules are in support.replaying.World, checked after every single event."""

from __future__ import annotations

import tempfile
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from support.fingerprints import fingerprint
from support.replaying import NEVER, Capacity, Program, Requirements, Verified, World, job
from torc_supervise.machine import records as r
from torc_supervise.machine.status import RunState, Status
from torc_supervise.workflow.model import Job

SECONDS = st.sampled_from([0.0, 0.001, 1.0, 7.0, 30.0, 100.0, 599.0, NEVER])
LONG_ENOUGH = 1e6  # every wait of these worlds has ended by then, the latest end of an allocation included


@st.composite
def programs(draw: st.DrawFn) -> Program:
    return Program(
        seconds=draw(SECONDS),
        code=draw(st.sampled_from([0, 0, 0, 1, 255])),
        ignores=draw(st.booleans()),
        saves=draw(st.none() | SECONDS),
        saved_code=draw(st.sampled_from([0, 3])),
        children=tuple(draw(st.lists(SECONDS, max_size=2))),
        children_ignore=draw(st.booleans()),
        children_save=draw(SECONDS),
        dies_after_kill=draw(st.sampled_from([0.0, 0.0, 0.0, 3.0, 10.0, 25.0, NEVER])),
        starts=tuple(draw(st.lists(st.sampled_from(["refused", "refused", "failed"]), max_size=2))),
        verify_after=draw(st.sampled_from([0.0, 0.0, 5.0, NEVER])),
        verified=draw(st.sampled_from([Verified(), Verified(("out",)), Verified((), (("out", 5),), True)])),
    )


@st.composite
def jobs(draw: st.DrawFn, job_id: int) -> Job:
    return job(
        job_id,
        supports_termination=draw(st.sampled_from([True, True, False])),
        depends_on=tuple(d for d in range(1, job_id) if draw(st.integers(0, 3)) == 0),
        cancel_on_blocking_job_failure=draw(st.sampled_from([True, True, False])),
        priority=draw(st.integers(0, 2)),
        sigterm_lead_seconds=draw(st.sampled_from([None, None, 0.0, 5.0, 300.0])),
        termination_signal=draw(st.sampled_from([None, None, "SIGINT", "SIGUSR1", "SIGKILL"])),
        signal_scope=draw(st.sampled_from(["group", "group", "leader"])),
        output_files=draw(st.sampled_from([(), (), ("out",)])),
        checkpoint=draw(st.sampled_from([None, None, "model.pt"])),
        requirements=Requirements(
            num_cpus=draw(st.integers(1, 3)),
            memory_bytes=draw(st.sampled_from([1, 600])),
            num_gpus=draw(st.integers(0, 1)),
            runtime_seconds=draw(st.sampled_from([None, None, 3.0, 200.0])),
            memory_stated=True,
        ),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 6))
    return World(
        *(draw(jobs(job_id)) for job_id in range(1, count + 1)),
        programs={job_id: draw(programs()) for job_id in range(1, count + 1)},
        end=draw(st.sampled_from([None, None, 1.0, 50.0, 400.0, 5000.0])),
        capacity=Capacity(4, 1000, 2, max_parallel_jobs=draw(st.sampled_from([None, None, 1, 2]))),
        files={"out": "out.txt"},
    )


JOB_IDS = st.integers(1, 6)
OPERATIONS = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.001, 0.1, 0.3, 2.0, 29.0, 31.0, 150.0, 2000.0])),
    st.tuples(st.just("jump"), st.sampled_from([0.001, 20.0, 500.0])),
    st.tuples(st.just("signal"), st.sampled_from([SIGTERM, SIGINT, SIGINT, SIGHUP, SIGUSR1])),
    st.tuples(st.just("blind"), st.sampled_from([None, SIGTERM, SIGINT])),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("memory"), JOB_IDS),
    st.tuples(st.just("end"), st.sampled_from([None, 0.0, 5.0, 40.0, 60.0, 300.0, 3000.0, 1e5])),
    st.tuples(st.just("stop"), JOB_IDS),
    st.tuples(st.just("murder"), JOB_IDS),
)


def perform(world: World, operation: tuple[str, Any]) -> None:
    match operation:
        case "pass", seconds:
            world.until(world.now - world.start + seconds)
        case "jump", seconds:
            world.jump(seconds)
        case "signal", signum:
            world.signal(signum)
        case "blind", None:  # a turn in which the news of exits has not arrived
            world.turn(sweep=False)
        case "blind", signum:
            world.turn([signum], sweep=False)
        case "cancel", _:
            world.cancel()
        case "end", None:
            world.move_end(None)
        case "end", seconds:
            world.move_end(world.now - world.start + seconds)
        case "memory", job_id:
            world.sample(job_id, 5000, at_limit=True)
        case "stop", job_id:
            world.outside(job_id, SIGSTOP)
        case "murder", job_id:
            world.outside(job_id, SIGKILL)


def run(world: World, operations: list[tuple[str, Any]]) -> None:
    for operation in operations:
        if world.supervision.done:
            return
        perform(world, operation)
    if not world.supervision.done:
        world.signal(SIGTERM)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.lists(OPERATIONS, max_size=8))
def test_p9_p12_whatever_happens_every_attempt_has_one_result_and_the_run_ends(
    world: World, operations: list[tuple[str, Any]]
) -> None:
    run(world, operations)
    world.finish(within=LONG_ENOUGH)
    world.check_books()
    for record in world.of(r.JobEnded):
        event(f"{record.status} {record.ended}")

    with tempfile.TemporaryDirectory() as directory:
        read_back = world.replayed(Path(directory))
        read_back.check()
        assert fingerprint(read_back) == fingerprint(world.state), "live state equals replayed state"

        # The next run: everybody behaves now, and nothing is left over.
        again = world.resume({job_id: Program(seconds=1.0) for job_id in world.programs})
        again.finish(within=LONG_ENOUGH)
        again.check_books()
        left = {again.state.status[j.job_id] for j in again.state.workflow.jobs}
        assert left <= {Status.COMPLETED, Status.FAILED, Status.CANCELED}
        assert again.state.outcome() in (RunState.COMPLETED, RunState.FAILED)
        assert fingerprint(again.replayed(Path(directory))) == fingerprint(again.state)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.lists(OPERATIONS, max_size=6))
def test_the_same_events_give_the_same_journal(world: World, operations: list[tuple[str, Any]]) -> None:
    twin = World(
        *world.state.workflow.jobs,
        programs=world.programs,
        end=world.wall.end - world.start if world.wall.known else None,
        capacity=replace(world.capacity),
        files={"out": "out.txt"},
    )
    run(world, operations)
    run(twin, operations)
    assert twin.lines == world.lines
    assert twin.said == world.said


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.lists(OPERATIONS, max_size=6), st.data())
def test_any_prefix_of_the_journal_is_a_state_that_holds_together(
    world: World, operations: list[tuple[str, Any]], data: st.DataObject
) -> None:
    run(world, operations)
    world.finish(within=LONG_ENOUGH)
    size = data.draw(st.integers(1, len(world.lines)))
    world.lines = world.lines[:size]
    with tempfile.TemporaryDirectory() as directory:
        world.replayed(Path(directory)).check()
