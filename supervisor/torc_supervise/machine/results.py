"""Results: the latest result of each job, packed.

A hundred thousand of them as structs take 57 MB, in the parent and in the keeper, and are hardly ever looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping
from functools import cache
from typing import Any

from msgspec import msgpack
from msgspec.structs import astuple, fields

from torc_supervise.machine.records import JobEnded
from torc_supervise.workflow.model import JobId

_PACKER = msgpack.Encoder()


@cache
def _unpacker() -> msgpack.Decoder[Any]:
    types: tuple[Any, ...] = (str, *(field.type for field in fields(JobEnded)))
    return msgpack.Decoder(tuple.__class_getitem__(types))


class Results(MutableMapping[JobId, tuple[str, JobEnded]]):
    """Job id -> the wall time (UTC, ISO 8601) of its latest result, and the result; in order of the ids."""

    def __init__(self) -> None:
        # What cannot be packed (a time beyond the year 2554, a path that is not UTF-8) is kept as it is.
        self._packed: list[bytes | tuple[str, JobEnded] | None] = []
        self._count = 0

    def __setitem__(self, job_id: JobId, result: tuple[str, JobEnded]) -> None:
        t, record = result
        if job_id >= len(self._packed):
            self._packed += [None] * (job_id + 1 - len(self._packed))
        self._count += self._packed[job_id] is None
        try:
            self._packed[job_id] = _PACKER.encode((t, *astuple(record)))
        except (OverflowError, UnicodeEncodeError):
            self._packed[job_id] = result

    def __getitem__(self, job_id: JobId) -> tuple[str, JobEnded]:
        packed = self._at(job_id)
        if packed is None:
            raise KeyError(job_id)
        if isinstance(packed, tuple):
            return packed
        t, *values = _unpacker().decode(packed)
        return t, JobEnded(*values)

    def __delitem__(self, job_id: JobId) -> None:
        if job_id not in self:
            raise KeyError(job_id)
        self._packed[job_id] = None
        self._count -= 1

    def __contains__(self, job_id: object) -> bool:
        return isinstance(job_id, int) and self._at(job_id) is not None

    def __iter__(self) -> Iterator[JobId]:
        return (job_id for job_id, packed in enumerate(self._packed) if packed is not None)

    def __len__(self) -> int:
        return self._count

    def _at(self, job_id: JobId) -> bytes | tuple[str, JobEnded] | None:
        return self._packed[job_id] if 0 <= job_id < len(self._packed) else None

    def copy(self) -> Results:
        other = Results()
        other._packed, other._count = self._packed.copy(), self._count
        return other

    def keep_only(self, job_ids: Collection[JobId]) -> None:
        """Forget those of all other jobs."""
        for job_id in [job_id for job_id in self if job_id not in job_ids]:
            del self[job_id]
