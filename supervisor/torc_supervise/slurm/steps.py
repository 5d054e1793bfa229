"""Job steps: the srun of one job, and the command line of the leader that starts it (``helpers.step_leader``)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from torc_supervise.slurm.hostlist import compress
from torc_supervise.workflow.model import Job

BACKSTOP_SLACK = 120.0
"""Seconds after a job's own runtime limit, and its grace, at which Slurm ends the step if we did not."""

LEADER_NAME, LEADER_VALUE = "TORC_STEP_LEADER", "1"
"""In the environment of a leader and of nothing else: it has its job's marks, and is no process of the job."""

# What tells an srun how to lay out a step.  Those that are there come from the batch job's options (or the user's
# environment), and mean the supervisor's allocation, not this step.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_LAYOUT_PREFIXES = (
    *("SLURM_CPUS_PER_", "SLURM_GPUS", "SLURM_MEM_PER_", "SLURM_NTASKS", "SLURM_TRES_PER_", "SLURM_CPU_BIND"),
    *("SLURM_MEM_BIND", "SLURM_GPU_BIND", "SLURM_GRES", "SLURM_STEP_", "SLURM_STD"),
    *("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"),
)
_LAYOUT = frozenset(
    f"SLURM_{name}"
    for name in (
        *("CORE_SPEC", "DISTRIBUTION", "EXACT", "EXCLUSIVE", "EXPORT_ENV", "HINT", "HOSTFILE", "IMMEDIATE"),
        *("KILL_BAD_EXIT", "LABELIO", "MPI_TYPE", "NO_KILL", "NNODES", "NPROCS", "OPEN_MODE", "OVERCOMMIT"),
        *("OVERLAP", "QUIT_ON_INTERRUPT", "RELATIVE", "REMOTE_CWD", "REQ_SWITCH", "RESV_PORTS", "SIGNAL"),
        *("SPREAD_JOB", "TASKS_PER_NODE", "THREADS_PER_CORE", "THREAD_SPEC", "THREADS", "TIMELIMIT"),
        *("UNBUFFEREDIO", "USE_MIN_NODES", "WAIT", "WAIT4SWITCH", "WHOLE", "WORKING_DIR", "JOB_NUM_NODES"),
    )
)

_BOOT = "import sys; sys.path += sys.argv[1:]; from torc_supervise.helpers.task import main; main()"


class StepSetup(Struct, frozen=True):
    """What is the same for all steps of a run.

    ``srun``, ``python``, ``directory``: absolute paths; the interpreter and this package must be at the same place on
    all nodes.  ``counts_memory``: Slurm gives out memory of this allocation, so each step needs a figure.
    ``has_gpus``: the allocation has some, so a job without must say so.
    """

    srun: str
    python: str
    directory: str
    counts_memory: bool = True
    has_gpus: bool = False
    cpu_bind: bool = False

    def srun_command(
        self, job: Job, name: str, nodes: tuple[str, ...], memory_bytes: int, grace: float, *, limited: bool
    ) -> list[str]:
        """The whole srun with the task behind it.

        Args:
            memory_bytes: per node.
            grace: seconds between the job's termination signal and SIGKILL.
            limited: the job's stated runtime is enforced.
        """
        need = job.requirements
        argv = [
            *(self.srun, "--quiet", "--exact", f"--nodes={len(nodes)}", f"--nodelist={compress(nodes)}"),
            *(f"--ntasks={len(nodes)}", "--ntasks-per-node=1", f"--cpus-per-task={need.num_cpus}"),
            *(f"--job-name={name}", f"--chdir={self.directory}", "--export=ALL", "--input=all", "--mpi=none"),
            *("--kill-on-bad-exit=1", "--wait=0", f"--cpu-bind={'cores' if self.cpu_bind else 'none'}"),
        ]
        if self.counts_memory:
            argv.append(f"--mem={max(1, memory_bytes >> 10)}K")
        if need.num_gpus:
            argv.append(f"--gres=gpu:{need.num_gpus}")
        elif self.has_gpus:
            argv.append("--gres=none")
        if limited and need.runtime_seconds is not None:
            argv.append(f"--time={math.ceil((need.runtime_seconds + grace + BACKSTOP_SLACK) / 60)}")
        return [*argv, *python_command(self.python), "-c", _BOOT, *import_path()]


def is_layout(name: str) -> bool:
    """Whether this variable would change what an srun of ours asks for."""
    return name in _LAYOUT or name.startswith(_LAYOUT_PREFIXES)


def import_path() -> tuple[str, ...]:
    """Where the task finds this package, and msgspec, which is all that it needs besides the standard library."""
    msgspec_package = os.path.dirname(os.path.realpath(msgspec.__file__))
    return tuple(dict.fromkeys((os.path.dirname(_PACKAGE), os.path.dirname(msgspec_package))))


def python_command(python: str) -> tuple[str, ...]:
    """An interpreter that looks at nothing but its own library: fast, and the job's PYTHONPATH is the job's."""
    return (python, "-I", "-S")


def leader_command(
    python: str,
    srun: list[str],
    task: Mapping[str, object],
    base: Mapping[str, str],
    environment: Mapping[str, str],
    stderr: str | None,
) -> tuple[str, ...]:
    """The command line of the leader, which is started with ``environment``.

    The job's own variables go to the task through srun's stdin: they are none of srun's business, and what hunts for
    processes of this run by them (``helpers.hunt``) must not find srun, whose death leaves the task alone.

    Args:
        base: the supervisor's environment.
        stderr: the job's file, where srun's troubles go; None for nowhere.
    """
    own = [
        name
        for name, value in environment.items()
        if (base.get(name) != value or name.startswith("TORC_")) and name != LEADER_NAME
    ]
    order = {
        "parent": os.getpid(),
        "srun": srun,
        "task": task,
        "own": own,
        "not_for_srun": sorted({*own, LEADER_NAME, *filter(is_layout, environment)}),
        "stderr": stderr,
    }
    leader = os.path.join(_PACKAGE, "helpers", "step_leader.py")
    return (*python_command(python), leader, json.dumps(order, ensure_ascii=False))
