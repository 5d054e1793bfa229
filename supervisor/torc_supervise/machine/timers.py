"""Timers: the moments at which phases want to hear of the clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from torc_supervise.machine.phases import NEVER, Phase, deadline
from torc_supervise.workflow.model import JobId


class Timers:
    """A heap of deadlines.  A phase that changed leaves its old entry behind; the phases are the truth."""

    def __init__(self, phases: Mapping[JobId, Phase]) -> None:
        self._phases = phases
        self._heap: list[tuple[float, JobId]] = []

    def note(self, job_id: JobId) -> None:
        """The job has a new phase."""
        at = deadline(self._phases[job_id])
        if at < NEVER:
            heapq.heappush(self._heap, (at, job_id))

    @property
    def earliest(self) -> float:
        while self._heap and self._is_stale(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[JobId]:
        """Jobs whose deadline has come, in its order; those that become due meanwhile included."""
        while self.earliest <= now:
            yield heapq.heappop(self._heap)[1]

    def _is_stale(self, at: float, job_id: JobId) -> bool:
        phase = self._phases.get(job_id)
        return phase is None or deadline(phase) != at
