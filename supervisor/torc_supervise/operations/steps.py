"""Steps: whether jobs of a run are processes here or job steps on the nodes of the allocation, and what for."""

from __future__ import annotations

import os
import sys

from msgspec.structs import replace

from torc_supervise.capacity import Capacity
from torc_supervise.errors import TorcError
from torc_supervise.operations.surroundings import Machine, RunOptions, Say
from torc_supervise.posix import host
from torc_supervise.slurm.commands import SlurmMissing, find
from torc_supervise.slurm.nodes import look_at_nodes
from torc_supervise.slurm.steps import StepSetup
from torc_supervise.slurm.variables import Allocation
from torc_supervise.workflow.model import ExecutionConfig, Workflow


def place_jobs(machine: Machine, workflow: Workflow, options: RunOptions, say: Say) -> Machine:
    """The machine with the nodes of its allocation, where the workflow's jobs are to be job steps.

    Raises:
        TorcError: mode slurm outside of an allocation, or without srun; one worker per node in direct mode.
    """
    if mode_of(workflow.execution, machine.allocation, say) == "direct":
        refuse_workers_per_node(workflow, machine.allocation)
        return machine
    allocation = machine.allocation
    assert allocation is not None
    found = look_at_nodes(allocation, host.memory_bytes(), host.num_cpus())
    if found.trouble is not None:
        say(f"warning: Slurm does not say what job {allocation.job_id} has of its nodes: {found.trouble}")
    if not found.nodes:
        raise TorcError(
            f"nobody knows the nodes of job {allocation.job_id}: SLURM_JOB_NODELIST is not set",
            "start torc-supervise in the batch script itself, or use execution_config.mode: direct",
        )
    if workflow.resource_monitor.enabled:
        say("warning: resource_monitor sees nothing in mode slurm: job steps run on other nodes")
    nodes = tuple(
        replace(
            node,
            num_cpus=options.num_cpus if options.num_cpus is not None else node.num_cpus,
            memory_bytes=options.memory_bytes if options.memory_bytes is not None else node.memory_bytes,
            num_gpus=options.num_gpus if options.num_gpus is not None else node.num_gpus,
        )
        for node in found.nodes
    )
    setup = StepSetup(
        find("srun"),
        sys.executable,
        os.getcwd(),
        found.counts_memory,
        any(node.num_gpus for node in nodes),
        bool(workflow.execution.slurm.get("enable_cpu_bind")),
    )
    capacity = Capacity.of_nodes(nodes, options.max_parallel_jobs)
    return replace(machine, capacity=capacity, gpu_names=(), steps=setup)


def mode_of(execution: ExecutionConfig, allocation: Allocation | None, say: Say) -> str:
    """ "direct" or "slurm".

    Raises:
        TorcError: the file wants job steps, and there can be none.
    """
    if execution.mode == "direct" or (execution.mode == "auto" and allocation is None):
        return "direct"
    if allocation is None:
        raise TorcError(
            "execution_config.mode is slurm, and this is no Slurm allocation: there can be no job steps",
            "queue it with 'torc-supervise submit', or write mode: auto, which runs jobs as plain processes where "
            "there is no allocation",
        )
    try:
        find("srun")
    except SlurmMissing:
        if execution.mode == "slurm":
            raise
        say("warning: there is no srun on PATH: jobs are processes of this host, as in mode: direct")
        return "direct"
    return "slurm"


def refuse_workers_per_node(workflow: Workflow, allocation: Allocation | None) -> None:
    """Raises TorcError where an action asks for one worker on each of several nodes: direct mode has none."""
    if allocation is None or len(allocation.nodes) < 2:
        return
    for action in workflow.extra.get("actions") or ():
        if action.get("start_one_worker_per_node"):
            raise TorcError(
                f"start_one_worker_per_node on {len(allocation.nodes)} nodes is not supported with mode: direct: "
                "jobs would run on the first node alone",
                "write execution_config.mode: slurm (or auto): one supervisor places jobs on all nodes",
            )
