"""Nodes: what an allocation has of each of its nodes: one scontrol call at the start of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from torc_supervise.capacity import Node
from torc_supervise.slurm.commands import SlurmError, run
from torc_supervise.slurm.hostlist import expand
from torc_supervise.slurm.variables import Allocation

_GROUP = re.compile(r"\bNodes=(\S+) CPU_IDs=(\S+) Mem=(\d+)(?: GRES=(\S*))?")
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")


class NodesFound(Struct, frozen=True):
    """``counts_memory``: Slurm gives out memory of this allocation.  ``trouble``: why Slurm could not be asked."""

    nodes: tuple[Node, ...]
    counts_memory: bool
    trouble: str | None = None


def look_at_nodes(allocation: Allocation, memory_bytes: int, cpus: int) -> NodesFound:
    """What there is for job steps.

    Args:
        memory_bytes, cpus: of this host, which stand for what nobody knows of the others.
    """
    trouble = None
    try:
        text = run(["scontrol", "--details", "--oneliner", "show", "job", allocation.job_id])
    except SlurmError as error:
        trouble = (error.said or error.message).strip().partition("\n")[0]
    else:
        if nodes := tuple(parse(text)):
            counts = any(node.memory_bytes for node in nodes)
            known = nodes if counts else tuple(_with_memory(node, memory_bytes) for node in nodes)
            return NodesFound(known, counts)
        trouble = "scontrol says nothing of its nodes"
    return NodesFound(_from_variables(allocation, memory_bytes, cpus), bool(allocation.memory_bytes), trouble)


def parse(text: str) -> Iterator[Node]:
    """The groups "Nodes=n[1-2] CPU_IDs=0-3 Mem=4000 GRES=gpu:2(IDX:0-1)" of "scontrol -d show job".

    Raises nothing: what is not understood is left out.
    """
    for names, ids, megabytes, gres in _GROUP.findall(text):
        try:
            cpus, nodes = len(expand(f"[{ids}]")), expand(names)
        except ValueError:
            continue
        gpus = sum(map(int, _GPUS.findall(re.sub(r"\([^)]*\)", "", gres))))
        for name in nodes:
            yield Node(name, cpus, int(megabytes) << 20, gpus)


def _from_variables(allocation: Allocation, memory_bytes: int, cpus: int) -> tuple[Node, ...]:
    gpus = len(allocation.gpus or ())
    return tuple(
        Node(
            name,
            allocation.cpus[index] if index < len(allocation.cpus) else cpus,
            allocation.memory_bytes[index] if index < len(allocation.memory_bytes) else memory_bytes,
            gpus,
        )
        for index, name in enumerate(allocation.nodes)
    )


def _with_memory(node: Node, memory_bytes: int) -> Node:
    return Node(node.name, node.num_cpus, memory_bytes, node.num_gpus)
