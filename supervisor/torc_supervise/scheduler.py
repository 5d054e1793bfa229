"""Scheduler: ready jobs and what is free -> what to start next.  Pure and deterministic.

Two ways of admission, as in TORC.md 3.5: by resources (CPUs, memory, GPUs), or by a plain number of jobs at a time.
Ready jobs are kept in one heap per *shape* (jobs that ask for the same amounts), so a start costs
O(shapes + log ready), however many jobs wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torc_supervise.workflow.model import Job, JobId, Requirements

Order = tuple[float, ...]
Shape = tuple[int, int, int, int]  # CPUs, memory, GPUs, nodes


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine offers.  ``max_parallel_jobs`` set: count jobs and ignore the amounts."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int
    num_nodes: int = 1
    max_parallel_jobs: int | None = None

    def shortage(self, need: Requirements) -> str | None:
        """Why a job with these requirements can never run here, or None if it can."""
        if self.max_parallel_jobs is not None:
            return None
        for what, asked, there in (
            ("CPUs", need.num_cpus, self.num_cpus),
            ("GPUs", need.num_gpus, self.num_gpus),
            ("nodes", need.num_nodes, self.num_nodes),
        ):
            if asked > there:
                return f"needs {asked} {what}, this machine offers {there}"
        if need.memory_bytes > self.memory_bytes:
            return f"needs {gib(need.memory_bytes)} of memory, this machine offers {gib(self.memory_bytes)}"
        return None


def gib(amount: int) -> str:
    """1610612736 -> "1.5 GiB"."""
    return f"{amount / (1 << 30):.1f} GiB" if amount >= 1 << 30 else f"{amount / (1 << 20):.0f} MiB"


@dataclass(slots=True)
class _Free:
    cpus: int
    memory: int
    gpus: list[int]  # a heap of indexes
    slots: int
    held: dict[JobId, tuple[Requirements, tuple[int, ...]]] = field(default_factory=dict)


class Scheduler:
    """The ready set and the resource ledger.

    Invariants: a job is in at most one of ready set and ledger; free plus held amounts are the capacity; no GPU
    index is held twice.
    """

    def __init__(
        self,
        capacity: Capacity,
        sort_method: str = "gpus_runtime_memory",
        runs_here: Callable[[Job], bool] = lambda job: True,
    ) -> None:
        self._capacity = capacity
        self._runs_here = runs_here
        self._by_count = capacity.max_parallel_jobs is not None
        self._key = _order(sort_method, by_count=self._by_count)
        self._free = _Free(
            capacity.num_cpus,
            capacity.memory_bytes,
            list(range(capacity.num_gpus)),
            capacity.max_parallel_jobs or 0,
        )
        # shape -> heap of (order, job id).  Invariant: no heap is empty.
        self._ready: dict[Shape, list[tuple[Order, JobId]]] = {}
        self._jobs: dict[JobId, Job] = {}  # the ready ones

    def add(self, jobs: Iterable[Job]) -> None:
        """These jobs became ready; those that wait for an allocation of another scheduler are passed over."""
        for job in filter(self._runs_here, jobs):
            self._jobs[job.job_id] = job
            heap = self._ready.setdefault(self._shape(job.requirements), [])
            heapq.heappush(heap, (self._key(job), job.job_id))

    def __len__(self) -> int:
        """How many jobs are ready and not started."""
        return len(self._jobs)

    @property
    def holding(self) -> int:
        """How many jobs hold resources."""
        return len(self._free.held)

    def take(self, fits_in_time: Callable[[Job], bool]) -> tuple[Job, tuple[int, ...]] | None:
        """The best ready job that fits now, with the GPU indexes it gets; None if nothing can start.

        First fit in priority order: a smaller job may pass a bigger one that has to wait, as in Torc.

        Args:
            fits_in_time: False for a job that would not be done before the end; it stays ready.
        """
        while fitting := [heap for shape, heap in self._ready.items() if self._fits(shape)]:
            heap = min(fitting, key=_first)
            _, job_id = heapq.heappop(heap)
            job = self._jobs.pop(job_id)
            if not heap:
                del self._ready[self._shape(job.requirements)]
            if fits_in_time(job):
                return job, self._hold(job)
            # Time only runs out, so this job cannot start in this run: it stays `ready` for the next one.
        return None

    @property
    def stuck(self) -> bool:
        """Jobs are ready, and none will ever start here: nothing is held, and even so none fits."""
        return bool(self._jobs) and not self.holding and not any(map(self._fits, self._ready))

    def release(self, job_id: JobId) -> None:
        """The job's processes are gone: what it held is free again."""
        need, gpus = self._free.held.pop(job_id)
        if self._by_count:
            self._free.slots += 1
            return
        self._free.cpus += need.num_cpus
        self._free.memory += need.memory_bytes
        for index in gpus:
            heapq.heappush(self._free.gpus, index)

    def _shape(self, need: Requirements) -> Shape:
        if self._by_count:
            return (0, 0, 0, 0)
        return (need.num_cpus, need.memory_bytes, need.num_gpus, need.num_nodes)

    def _fits(self, shape: Shape) -> bool:
        free = self._free
        if self._by_count:
            return free.slots > 0
        cpus, memory, gpus, nodes = shape
        return (
            cpus <= free.cpus
            and memory <= free.memory
            and gpus <= len(free.gpus)
            and nodes <= self._capacity.num_nodes
        )

    def _hold(self, job: Job) -> tuple[int, ...]:
        need, free = job.requirements, self._free
        gpus: tuple[int, ...] = ()
        if self._by_count:
            free.slots -= 1
        else:
            free.cpus -= need.num_cpus
            free.memory -= need.memory_bytes
            gpus = tuple(heapq.heappop(free.gpus) for _ in range(need.num_gpus))
        free.held[job.job_id] = (need, gpus)
        return gpus

    def check(self) -> None:
        """Raise AssertionError if an invariant of the class does not hold."""
        free, capacity = self._free, self._capacity
        assert not (set(self._jobs) & set(free.held)), "ready and held"
        if self._by_count:
            assert free.slots + self.holding == capacity.max_parallel_jobs, "slots"
            return
        assert free.cpus + sum(n.num_cpus for n, _ in free.held.values()) == capacity.num_cpus, "cpus"
        assert free.cpus >= 0, "cpus oversubscribed"
        assert free.memory + sum(n.memory_bytes for n, _ in free.held.values()) == capacity.memory_bytes
        assert free.memory >= 0, "memory oversubscribed"
        held = [index for _, gpus in free.held.values() for index in gpus]
        assert sorted(held + free.gpus) == list(range(capacity.num_gpus)), "gpus"


def _first(heap: list[tuple[Order, JobId]]) -> tuple[Order, JobId]:
    return heap[0]


def _order(sort_method: str, *, by_count: bool) -> Callable[[Job], Order]:
    """Highest priority first, then as ``jobs_sort_method`` says; the heap breaks ties by job id."""
    if by_count or sort_method == "none":
        return lambda job: (-job.priority,)

    def gpus_runtime_memory(job: Job) -> Order:
        need = job.requirements
        return (-job.priority, -need.num_gpus, -(need.runtime_seconds or 0.0), -need.memory_bytes)

    def gpus_memory_runtime(job: Job) -> Order:
        need = job.requirements
        return (-job.priority, -need.num_gpus, -need.memory_bytes, -(need.runtime_seconds or 0.0))

    return gpus_memory_runtime if sort_method == "gpus_memory_runtime" else gpus_runtime_memory
