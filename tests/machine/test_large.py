"""100,000 jobs through the pure core and back from the journal.  Work is counted, not timed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fingerprints import fingerprint
from support.many_jobs import begin, build, go_on
from support.replaying import state_of
from torc_supervise.machine import records as r
from torc_supervise.machine import supervision as module
from torc_supervise.machine.status import RunState, Status
from torc_supervise.machine.step import step
from torc_supervise.store import journal


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """As run() does it: what is loaded is never garbage, and looking at it again and again costs half of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_steps_and_records_per_job_stay_constant_up_to_100000_jobs(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def counted(*arguments: object) -> object:
        nonlocal steps
        steps += 1
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "step", counted)
    ran = begin(count)
    go_on(ran)
    state, lines = ran.state, ran.lines
    assert state.counts[Status.COMPLETED] == count
    assert state.outcome() is RunState.COMPLETED
    assert steps == 3 * count, "spawned, exited, reaped"
    assert len(lines) == 2 * count + 2, "started and ended, and two lines of the workflow"
    state.check()
    ran.supervision.check()

    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(lines))
    read_back, seq = journal.replay(str(path))
    assert seq == len(lines)
    assert fingerprint(read_back) == fingerprint(state)


def test_replacing_the_specification_of_many_finished_jobs_is_not_quadratic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 10_000
    state = state_of(*build(count))
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
