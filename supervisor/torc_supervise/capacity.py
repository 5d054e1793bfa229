"""Capacity: what there is for jobs, on one machine or on the nodes of an allocation, and why a job can never fit."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from torc_supervise.workflow.model import Requirements


class Node(Struct, frozen=True):
    """One node of an allocation: what of it the allocation has."""

    name: str
    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0

    def holds(self, need: Requirements) -> bool:
        """Whether the empty node has room for the share of the job that one node gets."""
        return (
            need.num_cpus <= self.num_cpus
            and need.memory_bytes <= self.memory_bytes
            and need.num_gpus <= self.num_gpus
        )


class Capacity(Struct, frozen=True):
    """What there is.  ``max_parallel_jobs`` set: count jobs and ignore the amounts.

    ``nodes``: of an allocation over which jobs are placed as job steps.  CPUs, memory and GPUs of a job are then *per
    node*, ``max_parallel_jobs`` is a bound besides the amounts, and the other fields hold the sums.  Empty for one
    machine.
    """

    num_cpus: int
    memory_bytes: int
    num_gpus: int
    num_nodes: int = 1
    max_parallel_jobs: int | None = None
    nodes: tuple[Node, ...] = ()

    @classmethod
    def of_nodes(cls, nodes: tuple[Node, ...], max_parallel_jobs: int | None = None) -> Capacity:
        """The capacity of these nodes together."""
        return cls(
            sum(node.num_cpus for node in nodes),
            sum(node.memory_bytes for node in nodes),
            sum(node.num_gpus for node in nodes),
            len(nodes),
            max_parallel_jobs,
            nodes,
        )

    def shortage(self, need: Requirements) -> str | None:
        """Why a job with these requirements can never run here, or None if it can."""
        if self.nodes:
            return self._shortage_of_nodes(need)
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

    def _shortage_of_nodes(self, need: Requirements) -> str | None:
        nodes = self.nodes
        names = f"{len(nodes)} nodes ({nodes[0].name} to {nodes[-1].name})" if nodes[1:] else nodes[0].name
        if need.num_nodes > len(nodes):
            return f"needs {need.num_nodes} nodes, the allocation has {names}"
        fitting = sum(node.holds(need) for node in nodes)
        if fitting >= need.num_nodes:
            return None
        for what, asked, most in (
            ("CPUs", need.num_cpus, max(node.num_cpus for node in nodes)),
            ("GPUs", need.num_gpus, max(node.num_gpus for node in nodes)),
        ):
            if asked > most:
                return f"needs {asked} {what} on a node, no node of the allocation ({names}) has more than {most}"
        most = max(node.memory_bytes for node in nodes)
        if need.memory_bytes > most:
            asked_text, most_text = gib(need.memory_bytes), gib(most)
            return (
                f"needs {asked_text} of memory on a node, no node of the allocation ({names}) has more than "
                f"{most_text}"
            )
        there = f"only {fitting} of the allocation's {names} has" if fitting else f"none of {names} has"
        return f"needs {need.num_nodes} nodes with all it asks for, {there} that"


class Placement(NamedTuple):
    """Where a job goes: GPU indexes on this machine, or the names of its nodes and the memory it has on each."""

    gpus: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    memory_bytes: int = 0


def gib(amount: int) -> str:
    """1610612736 -> "1.5 GiB"."""
    return f"{amount / (1 << 30):.1f} GiB" if amount >= 1 << 30 else f"{amount / (1 << 20):.0f} MiB"
