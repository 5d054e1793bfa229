"""Ledger: what is free and who holds what, on one machine or on the nodes of an allocation.  Pure and deterministic."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Protocol

from torc_supervise.capacity import Capacity, Node, Placement
from torc_supervise.workflow.model import JobId, Requirements

Shape = tuple[int, int, int, int]  # CPUs, memory, GPUs, nodes


class Ledger(Protocol):
    """Holds and gives back what jobs need.

    Invariants (``check``): free plus held amounts are the capacity, nowhere is less than nothing free, and no GPU index
    is held twice.
    """

    def shape(self, need: Requirements) -> Shape:
        """What this ledger asks for such a job; jobs of one shape are interchangeable."""

    def fits(self, shape: Shape) -> bool: ...

    def hold(self, job_id: JobId, shape: Shape) -> Placement:
        """Take it.  Call only where it fits."""

    def release(self, job_id: JobId) -> None: ...

    def __len__(self) -> int:
        """How many jobs hold something."""

    def jobs(self) -> Iterable[JobId]: ...

    def check(self) -> None:
        """Raise AssertionError if an invariant does not hold."""


def ledger_of(capacity: Capacity) -> Ledger:
    if capacity.nodes:
        return NodeLedger(capacity)
    if capacity.max_parallel_jobs is not None:
        return SlotLedger(capacity.max_parallel_jobs)
    return MachineLedger(capacity)


class SlotLedger:
    """A plain number of jobs at a time."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._held: set[JobId] = set()

    def shape(self, need: Requirements) -> Shape:
        return (0, 0, 0, 0)

    def fits(self, shape: Shape) -> bool:
        return len(self._held) < self._slots

    def hold(self, job_id: JobId, shape: Shape) -> Placement:
        self._held.add(job_id)
        return Placement()

    def release(self, job_id: JobId) -> None:
        self._held.remove(job_id)

    def __len__(self) -> int:
        return len(self._held)

    def jobs(self) -> Iterable[JobId]:
        return self._held

    def check(self) -> None:
        assert len(self._held) <= self._slots, "slots"


class MachineLedger:
    """CPUs, memory and GPU indexes of one machine."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._cpus, self._memory = capacity.num_cpus, capacity.memory_bytes
        self._gpus = list(range(capacity.num_gpus))  # a heap of free indexes
        self._held: dict[JobId, tuple[Shape, tuple[int, ...]]] = {}

    def shape(self, need: Requirements) -> Shape:
        return (need.num_cpus, need.memory_bytes, need.num_gpus, need.num_nodes)

    def fits(self, shape: Shape) -> bool:
        cpus, memory, gpus, nodes = shape
        return (
            cpus <= self._cpus
            and memory <= self._memory
            and gpus <= len(self._gpus)
            and nodes <= self._capacity.num_nodes
        )

    def hold(self, job_id: JobId, shape: Shape) -> Placement:
        self._cpus -= shape[0]
        self._memory -= shape[1]
        gpus = tuple(heapq.heappop(self._gpus) for _ in range(shape[2]))
        self._held[job_id] = (shape, gpus)
        return Placement(gpus)

    def release(self, job_id: JobId) -> None:
        shape, gpus = self._held.pop(job_id)
        self._cpus += shape[0]
        self._memory += shape[1]
        for index in gpus:
            heapq.heappush(self._gpus, index)

    def __len__(self) -> int:
        return len(self._held)

    def jobs(self) -> Iterable[JobId]:
        return self._held

    def check(self) -> None:
        capacity, held = self._capacity, self._held.values()
        assert self._cpus + sum(shape[0] for shape, _ in held) == capacity.num_cpus, "cpus"
        assert self._cpus >= 0, "cpus oversubscribed"
        assert self._memory + sum(shape[1] for shape, _ in held) == capacity.memory_bytes, "memory"
        assert self._memory >= 0, "memory oversubscribed"
        indexes = [index for _, gpus in held for index in gpus]
        assert sorted(indexes + self._gpus) == list(range(capacity.num_gpus)), "gpus"


class _Free:
    """What is free on one node."""

    __slots__ = ("cpus", "gpus", "memory", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpus, self.memory, self.gpus = node.num_cpus, node.memory_bytes, node.num_gpus

    def holds(self, shape: Shape) -> bool:
        return shape[0] <= self.cpus and shape[1] <= self.memory and shape[2] <= self.gpus

    def add(self, shape: Shape, sign: int) -> None:
        self.cpus += sign * shape[0]
        self.memory += sign * shape[1]
        self.gpus += sign * shape[2]


class NodeLedger:
    """CPUs, memory and the number of GPUs of each node.

    A job gets the first nodes, in the allocation's order, that have room for its share: nodes fill up one after the
    other, and whole ones stay free for jobs that need several.  Which GPUs a step gets is Slurm's to say.

    A job whose file states no memory gets that of its CPUs: a step without a figure would get all memory of its node,
    and Slurm would start the steps one after the other.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._free = [_Free(node) for node in capacity.nodes]
        self._by_name = {free.node.name: free for free in self._free}
        self._held: dict[JobId, tuple[Shape, tuple[str, ...]]] = {}
        self._memory_per_cpu = min(node.memory_bytes // max(1, node.num_cpus) for node in capacity.nodes)

    def shape(self, need: Requirements) -> Shape:
        memory = need.memory_bytes if need.memory_stated else self._memory_per_cpu * need.num_cpus
        return (need.num_cpus, memory, need.num_gpus, need.num_nodes)

    def fits(self, shape: Shape) -> bool:
        slots, count = self._capacity.max_parallel_jobs, shape[3]
        if slots is not None and len(self._held) >= slots:
            return False
        for free in self._free:
            if free.holds(shape):
                count -= 1
                if count == 0:
                    return True
        return False

    def hold(self, job_id: JobId, shape: Shape) -> Placement:
        chosen: list[str] = []
        for free in self._free:
            if free.holds(shape):
                free.add(shape, -1)
                chosen.append(free.node.name)
                if len(chosen) == shape[3]:
                    break
        names = tuple(chosen)
        self._held[job_id] = (shape, names)
        return Placement((), names, shape[1])

    def release(self, job_id: JobId) -> None:
        shape, names = self._held.pop(job_id)
        for name in names:
            self._by_name[name].add(shape, 1)

    def __len__(self) -> int:
        return len(self._held)

    def jobs(self) -> Iterable[JobId]:
        return self._held

    def check(self) -> None:
        slots = self._capacity.max_parallel_jobs
        assert slots is None or len(self._held) <= slots, "slots"
        for free in self._free:
            node = free.node
            shapes = [shape for shape, names in self._held.values() if node.name in names]
            assert free.cpus + sum(shape[0] for shape in shapes) == node.num_cpus, f"cpus of {node.name}"
            assert free.memory + sum(shape[1] for shape in shapes) == node.memory_bytes, (
                f"memory of {node.name}"
            )
            assert free.gpus + sum(shape[2] for shape in shapes) == node.num_gpus, f"gpus of {node.name}"
            assert min(free.cpus, free.memory, free.gpus) >= 0, f"{node.name} oversubscribed"
        for shape, names in self._held.values():
            assert len(set(names)) == shape[3], "as many nodes as it asked for, each once"
