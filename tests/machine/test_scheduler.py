"""Ready jobs and what is free -> what starts next (TORC.md 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replaying import Capacity, Requirements, job
from torc_supervise.scheduler import Scheduler, gib
from torc_supervise.workflow.model import Job

LARGE = Capacity(1000, 1 << 50, 100, 10)


def needs(job_id: int, priority: int = 0, **amounts: Any) -> Job:
    return job(job_id, priority=priority, requirements=Requirements(**amounts))


def always(_: Job) -> bool:
    return True


def drain(scheduler: Scheduler, fits: Callable[[Job], bool] = always) -> list[int]:
    """Everything that can start now, in its order."""
    taken = []
    while (found := scheduler.take(fits)) is not None:
        taken.append(found[0].job_id)
        scheduler.check()
    return taken


GPU = needs(1, num_gpus=1)
LONG = needs(2, runtime_seconds=500.0)
HUGE = needs(3, memory_bytes=1 << 30)
PLAIN = needs(4)
URGENT = needs(5, priority=1)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("gpus_runtime_memory", [5, 1, 2, 3, 4]),
        ("gpus_memory_runtime", [5, 1, 3, 2, 4]),
        ("none", [5, 1, 2, 3, 4]),
    ],
)
def test_priority_first_then_the_sort_method_then_job_id(method: str, expected: list[int]) -> None:
    scheduler = Scheduler(LARGE, method)
    scheduler.add([PLAIN, HUGE, LONG, GPU, URGENT])
    assert drain(scheduler) == expected


def test_ties_are_broken_by_job_id_whatever_the_order_of_arrival() -> None:
    scheduler = Scheduler(LARGE)
    scheduler.add(needs(n) for n in (3, 1, 2))
    assert drain(scheduler) == [1, 2, 3]


def test_a_smaller_job_passes_a_bigger_one_that_has_to_wait() -> None:
    scheduler = Scheduler(Capacity(4, 1 << 30, 0))
    scheduler.add(
        [needs(1, num_cpus=3), needs(2, priority=-1, num_cpus=3), needs(3, priority=-2, num_cpus=1)]
    )
    assert drain(scheduler) == [1, 3]
    scheduler.release(1)
    assert drain(scheduler) == [2]


def test_gpu_indexes_are_distinct_and_the_lowest_free_ones() -> None:
    scheduler = Scheduler(Capacity(99, 1 << 40, 4))
    scheduler.add([needs(1, num_gpus=2), needs(2, num_gpus=1)])
    first, second = scheduler.take(always), scheduler.take(always)
    assert first is not None
    assert second is not None
    assert (first[1].gpus, second[1].gpus) == ((0, 1), (2,))
    scheduler.release(1)
    scheduler.add([needs(3, num_gpus=3)])
    third = scheduler.take(always)
    assert third is not None
    assert third[1].gpus == (0, 1, 3)


def test_by_count_amounts_and_sort_method_are_ignored_but_not_the_priority() -> None:
    scheduler = Scheduler(Capacity(1, 1, 0, max_parallel_jobs=2))
    scheduler.add([needs(1), needs(2, num_gpus=9, num_cpus=99), needs(3, priority=1)])
    assert drain(scheduler) == [3, 1]
    scheduler.release(3)
    found = scheduler.take(always)
    assert found is not None
    assert (found[0].job_id, found[1].gpus) == (2, ())


def test_a_job_that_does_not_fit_in_time_is_set_aside_and_the_order_kept() -> None:
    """Control: going on in the same heap would let 3 overtake 2, which has another shape."""
    scheduler = Scheduler(LARGE)
    scheduler.add([needs(1, priority=9), needs(2, priority=5, num_cpus=2), needs(3, priority=1)])
    assert drain(scheduler, lambda j: j.job_id != 1) == [2, 3]
    assert len(scheduler) == 0


def test_a_run_is_stuck_when_nothing_is_held_and_nothing_fits() -> None:
    scheduler = Scheduler(Capacity(4, 1 << 30, 0))
    assert not scheduler.stuck, "nothing is ready"
    scheduler.add([needs(1, num_cpus=5), needs(2, num_cpus=3)])
    assert not scheduler.stuck
    assert drain(scheduler) == [2]
    assert not scheduler.stuck, "something is held"
    scheduler.release(2)
    assert scheduler.stuck
    assert scheduler.holding == 0


def test_shortage_names_the_amount_that_is_missing() -> None:
    machine = Capacity(8, 1536 << 20, 1)
    assert machine.shortage(Requirements(num_cpus=8, memory_bytes=1536 << 20, num_gpus=1)) is None
    assert machine.shortage(Requirements(num_cpus=9)) == "needs 9 CPUs, this machine offers 8"
    assert machine.shortage(Requirements(num_gpus=2)) == "needs 2 GPUs, this machine offers 1"
    assert machine.shortage(Requirements(num_nodes=2)) == "needs 2 nodes, this machine offers 1"
    shortage = machine.shortage(Requirements(memory_bytes=1 << 32))
    assert shortage == "needs 4.0 GiB of memory, this machine offers 1.5 GiB"
    assert Capacity(1, 1, 0, max_parallel_jobs=1).shortage(Requirements(num_cpus=99)) is None
    assert gib(5 << 20) == "5 MiB"


AMOUNTS = st.builds(
    Requirements,
    num_cpus=st.integers(0, 5),
    memory_bytes=st.integers(0, 100),
    num_gpus=st.integers(0, 3),
    runtime_seconds=st.none() | st.floats(0, 100),
)


@given(
    st.lists(st.tuples(AMOUNTS, st.integers(-2, 2)), max_size=12),
    st.sampled_from([None, 1, 3]),
    st.sampled_from(["gpus_runtime_memory", "gpus_memory_runtime", "none"]),
    st.data(),
)
def test_nothing_is_given_twice_whatever_the_order_of_starts_and_ends(
    wanted: list[tuple[Requirements, int]], limit: int | None, method: str, data: st.DataObject
) -> None:
    """Twins get the same jobs in the same order: the scheduler is deterministic."""
    capacity = Capacity(4, 80, 2, max_parallel_jobs=limit)
    twins = [Scheduler(capacity, method), Scheduler(capacity, method)]
    waiting = [job(n, priority=p, requirements=need) for n, (need, p) in enumerate(wanted, 1)]
    running: list[int] = []
    for _ in range(3 * len(waiting) + 3):
        match data.draw(st.sampled_from(["add", "take", "take", "release"])):
            case "add" if waiting:
                arrived = waiting.pop()
                for twin in twins:
                    twin.add([arrived])
            case "take":
                found, other = (twin.take(lambda j: j.job_id % 5 != 0) for twin in twins)
                assert found == other
                if found is not None:
                    assert limit is None or len(running) < limit
                    running.append(found[0].job_id)
            case "release" if running:
                over = running.pop(data.draw(st.integers(0, len(running) - 1)))
                for twin in twins:
                    twin.release(over)
        for twin in twins:
            twin.check()
        assert twins[0].holding == len(running)


@given(st.lists(st.tuples(AMOUNTS, st.integers(-2, 2)), max_size=12))
def test_on_a_large_machine_jobs_start_in_exactly_the_documented_order(
    wanted: list[tuple[Requirements, int]],
) -> None:
    everything = [job(n, priority=p, requirements=need) for n, (need, p) in enumerate(wanted, 1)]
    scheduler = Scheduler(LARGE)
    scheduler.add(everything)

    def rank(j: Job) -> tuple[float, ...]:
        need = j.requirements
        return (-j.priority, -need.num_gpus, -(need.runtime_seconds or 0), -need.memory_bytes, j.job_id)

    assert drain(scheduler) == [j.job_id for j in sorted(everything, key=rank)]
