"""100,000 jobs through the pure core and back from the journal.  Work is counted, not timed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.replaying import Capacity, job, state_of
from torc_supervise.exitstatus import Exited
from torc_supervise.machine import records as r
from torc_supervise.machine import supervision as module
from torc_supervise.machine.actions import Reap
from torc_supervise.machine.status import RunState, Status
from torc_supervise.machine.step import step
from torc_supervise.machine.supervision import Order, Start, Supervision, Write
from torc_supervise.scheduler import Scheduler
from torc_supervise.store import journal
from torc_supervise.store.records import encode
from torc_supervise.workflow.model import Requirements

STAGES = 4  # chains of this length, a gathering job at the end of each hundred of them


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """As run() does it: what is loaded is never garbage, and looking at it again and again costs half of the time."""
    gc.disable()
    yield
    gc.enable()


def build(count: int) -> list[object]:
    shapes = [Requirements(num_cpus=1 + n % 3, memory_bytes=1 << (20 + n % 4)) for n in range(12)]
    return [
        job(
            n,
            depends_on=(n - 1,) if n % STAGES != 1 else (),
            requirements=shapes[n % 12],
            priority=n % 5,
        )
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_steps_and_records_per_job_stay_constant_up_to_100000_jobs(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = turns = 0

    def counted(*arguments: object) -> object:
        nonlocal steps
        steps += 1
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "step", counted)
    state = state_of(*build(count))  # type: ignore[arg-type]
    supervision = Supervision(state, Scheduler(Capacity(200, 1 << 40, 0)))
    lines = [encode(1, "t0", 0.0, r.WorkflowCreated(1, 1, state.workflow.to_dict()))]
    running: list[int] = []
    pgid, jobs_of = 1000, {}
    supervision.at(1.0, "t1")
    supervision.begin(r.RunStarted(1, "host", 1))
    while not supervision.done:
        turns += 1
        supervision.at(float(turns), f"t{turns}")
        supervision.tick()
        for group in running:
            supervision.on_leader_exited(group, Exited(0), 0)
        running = []
        while orders := (
            supervision.take_orders() or (supervision.start_next() and supervision.take_orders())
        ):
            for order in orders:
                match order:
                    case Start(job=started):
                        pgid += 1
                        jobs_of[pgid] = started.job_id
                        running.append(pgid)
                        supervision.on_spawned(started.job_id, pgid)
                    case Order(job_id=job_id, action=Reap()):
                        supervision.on_reaped(job_id, None)
                    case Write(record=record, t=t, mono=mono):
                        lines.append(encode(len(lines) + 1, t, mono, record))
    assert state.counts[Status.COMPLETED] == count
    assert state.outcome() is RunState.COMPLETED
    assert steps == 3 * count, "spawned, exited, reaped"
    assert len(lines) == 2 * count + 2, "started and ended, and two lines of the workflow"
    state.check()
    supervision.check()

    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(lines))
    read_back, seq = journal.replay(str(path))
    assert seq == len(lines)
    assert read_back.fingerprint() == state.fingerprint()


def test_replacing_the_specification_of_many_finished_jobs_is_not_quadratic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 10_000
    state = state_of(*build(count))  # type: ignore[arg-type]
    for n in range(1, 101):
        state.results[n] = ("t", r.JobEnded(1, n, 1, "completed", "exited", 0))
    calls = 0
    whole = type(state).known_ids

    def counted(self: object) -> set[int]:
        nonlocal calls
        calls += 1
        return whole(state)

    monkeypatch.setattr(type(state), "known_ids", counted)
    state.apply("t", 1.0, r.WorkflowUpdated(state.workflow.to_dict()))
    assert calls <= 1
    assert len(state.results) == 100
