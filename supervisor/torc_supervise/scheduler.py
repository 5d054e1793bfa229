"""Scheduler: ready jobs and what is free -> what to start next.  Pure and deterministic.

Two ways of admission, as in TORC.md 3.5: by resources (CPUs, memory, GPUs), or by a plain number of jobs at a time.
Ready jobs are kept in one heap per *shape* (jobs that ask for the same amounts), so a start costs
O(shapes + log ready), however many jobs wait; with the nodes of an allocation O(shapes x nodes + log ready).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from torc_supervise.capacity import Capacity, Placement, gib
from torc_supervise.ledger import Shape, ledger_of
from torc_supervise.workflow.model import Job, JobId

__all__ = ["Capacity", "Placement", "Scheduler", "gib"]

Order = tuple[float, ...]


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
        by_count = capacity.max_parallel_jobs is not None and not capacity.nodes
        self.runs_here = runs_here
        self._key = _order(sort_method, by_count=by_count)
        self._ledger = ledger_of(capacity)
        self._shape = self._ledger.shape
        self._fits = self._ledger.fits
        # shape -> heap of (order, job id).  Invariant: no heap is empty.
        self._ready: dict[Shape, list[tuple[Order, JobId]]] = {}
        self._jobs: dict[JobId, Job] = {}  # the ready ones

    def add(self, jobs: Iterable[Job]) -> None:
        """These jobs became ready; those that wait for an allocation of another scheduler are passed over."""
        for job in filter(self.runs_here, jobs):
            self._jobs[job.job_id] = job
            heap = self._ready.setdefault(self._shape(job.requirements), [])
            heapq.heappush(heap, (self._key(job), job.job_id))

    def __len__(self) -> int:
        """How many jobs are ready and not started."""
        return len(self._jobs)

    @property
    def holding(self) -> int:
        """How many jobs hold resources."""
        return len(self._ledger)

    def take(self, fits_in_time: Callable[[Job], bool]) -> tuple[Job, Placement] | None:
        """The best ready job that fits now, and where it goes; None if nothing can start.

        First fit in priority order: a smaller job may pass a bigger one that has to wait, as in Torc.

        Args:
            fits_in_time: False for a job that would not be done before the end; it stays ready.
        """
        while fitting := [heap for shape, heap in self._ready.items() if self._fits(shape)]:
            heap = min(fitting, key=_first)
            _, job_id = heapq.heappop(heap)
            job = self._jobs.pop(job_id)
            shape = self._shape(job.requirements)
            if not heap:
                del self._ready[shape]
            if fits_in_time(job):
                return job, self._ledger.hold(job_id, shape)
            # Time only runs out, so this job cannot start in this run: it stays `ready` for the next one.
        return None

    @property
    def stuck(self) -> bool:
        """Jobs are ready, and none will ever start here: nothing is held, and even so none fits."""
        return bool(self._jobs) and not self.holding and not any(map(self._fits, self._ready))

    def release(self, job_id: JobId) -> None:
        """The job's processes are gone: what it held is free again."""
        self._ledger.release(job_id)

    def check(self) -> None:
        """Raise AssertionError if an invariant of the class does not hold."""
        assert not (set(self._jobs) & set(self._ledger.jobs())), "ready and held"
        self._ledger.check()


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
