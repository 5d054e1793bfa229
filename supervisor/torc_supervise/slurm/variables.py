"""What an allocation is, as Slurm's variables tell it.  Any of them may be missing, or hold something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import Struct

from torc_supervise.slurm import hostlist

MOST_NODES = 100_000
"""More than any cluster has: what says more is garbage."""

T = TypeVar("T")

_CPUS = re.compile(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,4})-([0-9]{1,4})", re.ASCII)
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MEMORY = re.compile(r"([0-9]{1,15})([KMGT]?)B?", re.ASCII | re.IGNORECASE)


class Allocation(Struct, frozen=True):
    """One Slurm job, seen from a process in it.

    ``nodes``: names, in Slurm's order; empty where Slurm did not say.  ``here``: position of this process's node in
    ``nodes``, 0 where that is not known.  ``cpus`` and ``memory_bytes``: per node, in the same order; empty where
    unknown, and ``memory_bytes`` also where nothing limits it.  ``gpus``: names of those of this node, None where
    Slurm says nothing of GPUs.  ``end_epoch``: seconds since 1970.  ``on_node``: whether slurmd started us (a shell of
    salloc runs where salloc was called).
    """

    job_id: str
    nodes: tuple[str, ...] = ()
    here: int = 0
    cpus: tuple[int, ...] = ()
    memory_bytes: tuple[int, ...] = ()
    gpus: tuple[str, ...] | None = None
    end_epoch: float | None = None
    partition: str | None = None
    submit_host: str | None = None
    restart_count: int = 0
    on_node: bool = False

    @property
    def cpus_here(self) -> int | None:
        return _at(self.cpus, self.here)

    @property
    def memory_here(self) -> int | None:
        return _at(self.memory_bytes, self.here)


def allocation(environ: Mapping[str, str]) -> Allocation | None:
    """The allocation that these variables tell of; None where they tell of none.

    That they are there does not mean that the job still is: a shell may have inherited them.
    """
    job_id = environ.get("SLURM_JOB_ID", environ.get("SLURM_JOBID", "")).strip()
    if not (job_id.isascii() and job_id.isdecimal() and int(job_id) > 0):
        return None
    nodes = _parsed(environ, "SLURM_JOB_NODELIST", _nodes) or _parsed(environ, "SLURM_NODELIST", _nodes) or ()
    count = len(nodes) or _parsed(environ, "SLURM_JOB_NUM_NODES", _positive) or 1
    here = environ.get("SLURMD_NODENAME", "")
    cpus = _parsed(environ, "SLURM_JOB_CPUS_PER_NODE", _cpus) or ()
    if not cpus and count == 1:
        on_node = _parsed(environ, "SLURM_CPUS_ON_NODE", _positive)
        cpus = (on_node,) if on_node is not None else ()
    return Allocation(
        job_id,
        nodes,
        nodes.index(here) if here in nodes else 0,
        cpus,
        _memory_per_node(environ, count, cpus),
        _gpus(environ),
        _parsed(environ, "SLURM_JOB_END_TIME", _epoch),
        environ.get("SLURM_JOB_PARTITION") or None,
        environ.get("SLURM_SUBMIT_HOST") or None,
        _parsed(environ, "SLURM_RESTART_COUNT", _positive) or 0,
        bool(here),
    )


def _memory_per_node(environ: Mapping[str, str], count: int, cpus: tuple[int, ...]) -> tuple[int, ...]:
    per_node = _parsed(environ, "SLURM_MEM_PER_NODE", _memory)
    if per_node:
        return (per_node,) * min(count, MOST_NODES)
    per_cpu = _parsed(environ, "SLURM_MEM_PER_CPU", _memory)
    return tuple(per_cpu * number for number in cpus) if per_cpu else ()


def _gpus(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Of this node: a step's own, the job's, or as many as there are said to be."""
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        names = _parsed(environ, name, _indexes)
        if names:
            return names
    count = _parsed(environ, "SLURM_GPUS_ON_NODE", _number)
    return None if count is None else tuple(str(index) for index in range(min(count, 1024)))


def _parsed(environ: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T | None:
    """None where the variable is not set, or holds what it should not."""
    text = environ.get(name, "").strip()
    if not text:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def _nodes(text: str) -> tuple[str, ...]:
    names = hostlist.expand(text)
    if len(names) > MOST_NODES:
        raise ValueError(text)
    return tuple(names)


def _cpus(text: str) -> tuple[int, ...]:
    """ "4(x2),8" -> (4, 4, 8)."""
    found: list[int] = []
    for part in text.split(","):
        match = _CPUS.fullmatch(part.strip())
        if match is None:
            raise ValueError(text)
        times = int(match[2] or 1)
        if len(found) + times > MOST_NODES:
            raise ValueError(text)
        found += [int(match[1])] * times
    return tuple(found)


def _memory(text: str) -> int:
    """MiB, or with a unit; bytes."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _UNITS[match[2].upper()]


def _indexes(text: str) -> tuple[str, ...]:
    """ "0,2-3" -> ("0", "2", "3"); names of other kinds as they are."""
    found: list[str] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            found.append(part.strip())
        else:
            found += [str(index) for index in range(int(match[1]), int(match[2]) + 1)]
    return tuple(name for name in found if name and name != "(null)")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError(text)
    return int(text)


def _positive(text: str) -> int:
    number = _number(text)
    if not number:
        raise ValueError(text)
    return number


def _epoch(text: str) -> float:
    """Seconds since 1970, of this century."""
    if not (text.isascii() and text.isdecimal() and 9 <= len(text) <= 11):
        raise ValueError(text)
    return float(text)


def _at(amounts: tuple[int, ...], index: int) -> int | None:
    return amounts[index] if index < len(amounts) else None
