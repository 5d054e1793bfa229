"""Allocations: the batch jobs that were queued for a workflow, and the actions that were taken.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.machine import records as r


class AllocationState(StrEnum):
    """What the journal knows of a batch job; Slurm itself may know more."""

    QUEUED = "queued"
    RUNNING = "running"  # a supervisor took the workflow up in it
    ENDED = "ended"  # that supervisor left, or its run was ended for it
    CANCELED = "canceled"
    GONE = "gone"  # Slurm does not know it any more, and no supervisor in it was heard of


class Allocation(Struct, frozen=True):
    """One batch job.  ``since``: UTC, of its last change.  ``submitted`` is None for one that we did not queue."""

    slurm_job_id: str
    state: AllocationState
    since: str
    submitted: r.AllocationSubmitted | None = None
    message: str | None = None


class Allocations:
    """By Slurm job id, in the order in which they were heard of."""

    def __init__(self) -> None:
        self._by_id: dict[str, Allocation] = {}

    def __iter__(self) -> Iterator[Allocation]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, slurm_job_id: str) -> Allocation | None:
        return self._by_id.get(slurm_job_id)

    def not_canceled(self, slurm_job_ids: Iterable[str]) -> list[str]:
        """Those of them that are not on record as canceled."""
        known = self._by_id
        return [x for x in slurm_job_ids if x not in known or known[x].state is not AllocationState.CANCELED]

    @property
    def queued(self) -> list[Allocation]:
        return [found for found in self._by_id.values() if found.state is AllocationState.QUEUED]

    @property
    def newest(self) -> Allocation | None:
        return next(reversed(self._by_id.values()), None)

    def submitted(self, t: str, record: r.AllocationSubmitted) -> None:
        self._by_id[record.slurm_job_id] = Allocation(record.slurm_job_id, AllocationState.QUEUED, t, record)

    def ended(self, t: str, record: r.AllocationEnded) -> None:
        how = {"canceled": AllocationState.CANCELED, "gone": AllocationState.GONE}
        self._change(record.slurm_job_id, how.get(record.how, AllocationState.ENDED), t, record.message)

    def run_started(self, t: str, record: r.RunStarted) -> None:
        if record.slurm_job_id is not None:
            self._change(record.slurm_job_id, AllocationState.RUNNING, t)

    def run_ended(self, t: str, slurm_job_id: str | None) -> None:
        if slurm_job_id is not None:
            self._change(slurm_job_id, AllocationState.ENDED, t)

    def _change(self, slurm_job_id: str, state: AllocationState, t: str, message: str | None = None) -> None:
        before = self._by_id.get(slurm_job_id) or Allocation(slurm_job_id, state, t)
        self._by_id[slurm_job_id] = replace(before, state=state, since=t, message=message)
