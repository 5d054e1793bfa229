"""Samples: peaks and averages of what the sampler saw of each job."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.machine.records import JobEnded
from torc_supervise.workflow.model import JobId


class _Sums(Struct):
    count: int = 0
    memory: int = 0
    peak_memory: int = 0
    cpu: float = 0.0
    peak_cpu: float = 0.0


class Samples:
    """Running sums per live job; nothing is kept once its result is written."""

    def __init__(self) -> None:
        self._sums: dict[JobId, _Sums] = {}

    def add(self, job_id: JobId, memory_bytes: int, cpu_percent: float) -> None:
        sums = self._sums.setdefault(job_id, _Sums())
        sums.count += 1
        sums.memory += memory_bytes
        sums.peak_memory = max(sums.peak_memory, memory_bytes)
        sums.cpu += cpu_percent
        sums.peak_cpu = max(sums.peak_cpu, cpu_percent)

    def complete(self, job_id: JobId, record: JobEnded) -> JobEnded:
        """The result with what was seen; unchanged where the job was too short to be seen."""
        sums = self._sums.pop(job_id, None)
        if sums is None:
            return record
        return replace(
            record,
            peak_memory_bytes=sums.peak_memory,
            avg_memory_bytes=sums.memory // sums.count,
            peak_cpu_percent=round(sums.peak_cpu, 1),
            avg_cpu_percent=round(sums.cpu / sums.count, 1),
        )
