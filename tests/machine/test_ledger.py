"""Jobs over the nodes of an allocation: nothing is given twice, and each gets what it asks for on each of its nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replaying import Requirements, job
from torc_supervise.capacity import Capacity, Node
from torc_supervise.scheduler import Scheduler
from torc_supervise.workflow.model import Job

GIB = 1 << 30


def nodes(*cpus: int, memory: int = 4 * GIB, gpus: int = 0) -> tuple[Node, ...]:
    return tuple(Node(f"n{number}", count, memory, gpus) for number, count in enumerate(cpus, 1))


def needs(job_id: int, **amounts: Any) -> Job:
    return job(job_id, requirements=Requirements(**amounts))


def placed(scheduler: Scheduler) -> dict[int, tuple[str, ...]]:
    """Everything that can start now: job id -> its nodes."""
    found = {}
    while (taken := scheduler.take(lambda _: True)) is not None:
        found[taken[0].job_id] = taken[1].nodes
        scheduler.check()
    return found


def test_nine_jobs_of_a_whole_node_run_three_at_a_time_on_three_nodes() -> None:
    scheduler = Scheduler(Capacity.of_nodes(nodes(4, 4, 4)))
    scheduler.add(needs(n, num_cpus=4) for n in range(1, 10))
    assert placed(scheduler) == {1: ("n1",), 2: ("n2",), 3: ("n3",)}
    scheduler.release(2)
    assert placed(scheduler) == {4: ("n2",)}


def test_nodes_fill_up_one_after_the_other_so_that_whole_ones_stay_free() -> None:
    scheduler = Scheduler(Capacity.of_nodes(nodes(4, 4, 4)))
    scheduler.add([*(needs(n, num_cpus=1) for n in (1, 2, 3)), needs(4, num_cpus=4, num_nodes=2)])
    assert placed(scheduler) == {1: ("n1",), 2: ("n1",), 3: ("n1",), 4: ("n2", "n3")}


def test_a_job_of_two_nodes_waits_for_two_that_have_room_for_its_share_each() -> None:
    """Control: eight CPUs are free all the time."""
    scheduler = Scheduler(Capacity.of_nodes(nodes(4, 4, 4)))
    scheduler.add([needs(1, num_cpus=2), needs(2, num_cpus=3), needs(3, num_cpus=3)])
    assert placed(scheduler) == {1: ("n1",), 2: ("n2",), 3: ("n3",)}
    scheduler.add([needs(4, num_cpus=2, num_nodes=2)])
    assert placed(scheduler) == {}
    scheduler.release(2)
    assert placed(scheduler) == {4: ("n1", "n2")}


def test_without_a_stated_memory_a_job_has_that_of_its_cpus() -> None:
    scheduler = Scheduler(Capacity.of_nodes(nodes(4)))
    scheduler.add([needs(1, num_cpus=3), needs(2, num_cpus=1, memory_bytes=2 * GIB, memory_stated=True)])
    first = scheduler.take(lambda _: True)
    assert first is not None
    assert (first[0].job_id, first[1].memory_bytes) == (2, 2 * GIB)
    assert placed(scheduler) == {}, "three CPUs are free, three quarters of the memory are not"
    scheduler.release(2)
    assert placed(scheduler) == {1: ("n1",)}


def test_on_nodes_a_number_of_jobs_is_a_bound_besides_the_amounts() -> None:
    scheduler = Scheduler(Capacity.of_nodes(nodes(4, 4), max_parallel_jobs=3))
    scheduler.add(needs(n, num_cpus=n % 4 + 1) for n in range(1, 6))
    assert len(placed(scheduler)) == 3
    scheduler.release(4)
    assert len(placed(scheduler)) <= 1


@pytest.mark.parametrize(
    ("amounts", "shortage"),
    [
        ({"num_cpus": 8}, None),
        ({"num_cpus": 4, "num_nodes": 3}, None),
        (
            {"num_cpus": 9},
            "needs 9 CPUs on a node, no node of the allocation (3 nodes (n1 to n3)) has more than 8",
        ),
        (
            {"num_gpus": 1},
            "needs 1 GPUs on a node, no node of the allocation (3 nodes (n1 to n3)) has more than 0",
        ),
        (
            {"memory_bytes": 5 * GIB},
            "needs 5.0 GiB of memory on a node, no node of the allocation (3 nodes (n1 to n3)) has more than 4.0 GiB",
        ),
        ({"num_nodes": 4}, "needs 4 nodes, the allocation has 3 nodes (n1 to n3)"),
        (
            {"num_cpus": 5, "num_nodes": 2},
            "needs 2 nodes with all it asks for, only 1 of the allocation's 3 nodes (n1 to n3) has that",
        ),
    ],
)
def test_shortage_names_the_nodes(amounts: dict[str, int], shortage: str | None) -> None:
    assert Capacity.of_nodes(nodes(4, 4, 8)).shortage(Requirements(**amounts)) == shortage


NEEDS = st.builds(
    Requirements,
    num_cpus=st.integers(1, 5),
    memory_bytes=st.integers(0, 100),
    num_gpus=st.integers(0, 3),
    num_nodes=st.integers(1, 4),
    memory_stated=st.booleans(),
)
NODES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 120), st.integers(0, 3)), min_size=1, max_size=5
).map(lambda found: tuple(Node(f"n{n}", *amounts) for n, amounts in enumerate(found)))


@given(NODES, st.lists(NEEDS, max_size=12), st.none() | st.integers(1, 3), st.data())
def test_no_node_is_oversubscribed_whatever_the_order_of_starts_and_ends(
    there: tuple[Node, ...], wanted: list[Requirements], limit: int | None, data: st.DataObject
) -> None:
    """``check`` after each step; and what the capacity calls possible does start on empty nodes."""
    capacity = Capacity.of_nodes(there, limit)
    scheduler = Scheduler(capacity)
    waiting = [job(n, requirements=need) for n, need in enumerate(wanted, 1)]
    running: list[int] = []
    for _ in range(3 * len(waiting) + 3):
        match data.draw(st.sampled_from(["add", "take", "take", "release"])):
            case "add" if waiting:
                scheduler.add([waiting.pop()])
            case "take":
                taken = scheduler.take(lambda _: True)
                if taken is not None:
                    running.append(taken[0].job_id)
                    assert len(taken[1].nodes) == taken[0].requirements.num_nodes
            case "release" if running:
                scheduler.release(running.pop(data.draw(st.integers(0, len(running) - 1))))
        scheduler.check()
        assert scheduler.holding == len(running) <= (limit or 99)
    for need in wanted:
        alone = Scheduler(capacity)
        alone.add([job(1, requirements=need)])
        starts = alone.take(lambda _: True) is not None
        assert not starts or need.memory_stated is False or capacity.shortage(need) is None
        if capacity.shortage(need) is None and need.memory_stated:
            assert starts
