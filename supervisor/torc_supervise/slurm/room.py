"""How much an allocation is known to offer on each of its nodes, from the options it is asked for with."""

from __future__ import annotations

import re

from msgspec import Struct

from torc_supervise.slurm.options import AllocationOptions
from torc_supervise.workflow.walltime import parse_walltime

# Where one of these is given, CPUs follow from the hardware as well.
_HARD_TO_TELL = (
    *("mincpus", "cpus-per-gpu", "ntasks-per-core", "ntasks-per-socket", "ntasks-per-gpu", "tres-per-task"),
    *("cores-per-socket", "sockets-per-node", "threads-per-core", "extra-node-info", "overcommit"),
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "": 1 << 20}
_SIZE = re.compile(r"(\d+)([KMGT]?)B?", re.ASCII | re.IGNORECASE)
_GPU = re.compile(r"(?:gres[:/])?gpu(?:[:/][^:=,()]+)*?(?:[:=](\d+))?(?:\([^)]*\))?", re.ASCII)


class Room(Struct, frozen=True):
    """Amounts per node, and seconds of wall time; None where the options do not tell."""

    nodes: int | None
    cpus: int | None
    memory_bytes: int | None
    gpus: int | None
    seconds: float | None


def room_of(options: AllocationOptions) -> Room:
    """What an allocation with these options is certain to have, where that follows from the options alone."""
    nodes = _whole(options.value("nodes"))
    cpus = None if options.whole_nodes else _cpus(options, nodes)
    return Room(nodes, cpus, _memory(options, cpus), _gpus(options, nodes), _seconds(options.value("time")))


def _cpus(options: AllocationOptions, nodes: int | None) -> int | None:
    if any(map(options.states, _HARD_TO_TELL)):
        return None
    per_task = _whole(options.value("cpus-per-task") or "1")
    tasks = options.value("ntasks-per-node")
    if tasks is None and options.states("ntasks"):
        tasks = options.value("ntasks") if nodes == 1 else None
        if tasks is None:
            return None
    number = _whole(tasks or "1")
    return per_task * number if per_task is not None and number is not None else None


def _memory(options: AllocationOptions, cpus: int | None) -> int | None:
    whole = _bytes(options.value("mem"))
    if whole is not None or options.states("mem"):
        return whole
    each = _bytes(options.value("mem-per-cpu"))
    return each * cpus if each is not None and cpus is not None else None


def _gpus(options: AllocationOptions, nodes: int | None) -> int | None:
    if options.whole_nodes or options.states("gpus-per-task") or options.states("gpus-per-socket"):
        return None
    per_node = options.value("gpus-per-node")
    if per_node is None and options.states("gpus"):
        per_node = options.value("gpus") if nodes == 1 else None
        if per_node is None:
            return None
    if per_node is not None:
        return _whole(per_node.rpartition(":")[2])
    counted = 0
    for part in (options.value("gres") or "").split(","):
        if part.strip() and (match := _GPU.fullmatch(part.strip())):
            counted += int(match[1] or 1)
    return counted


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def _bytes(text: str | None) -> int | None:
    """As sbatch counts: MiB without a letter; 0 is all memory of the node, however much that is."""
    match = _SIZE.fullmatch(text.strip()) if text is not None else None
    return (int(match[1]) * _UNITS[match[2].upper()] or None) if match else None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_walltime(text)
    except ValueError:
        return None  # "infinite", or something that sbatch has to judge
