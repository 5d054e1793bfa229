"""Isolation: refusing jobs that are to have PID namespaces where there are none, before anything is started."""

from __future__ import annotations

from collections.abc import Iterable

from torc_supervise.errors import TorcError
from torc_supervise.posix import namespaces
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.workflow.model import Job, Workflow

_WITHOUT = (
    "write isolation: none, or leave it out: what leaves its job's process group is found in other ways then"
)


def check_isolation(workflow: Workflow, jobs: Iterable[Job], *, as_steps: bool) -> None:
    """Refuse what the jobs ask for and cannot have here.

    Raises:
        TorcError: ``isolation: pid_namespace`` where the kernel forbids it, or of job steps.
    """
    job = next(filter(workflow.isolates, jobs), None)
    if job is None:
        return
    if as_steps:
        raise TorcError(
            f"job '{job.name}' has isolation: pid_namespace, and jobs are Slurm's job steps here: they have none",
            "write execution_config.mode: direct, or isolation: none",
        )
    try:
        trouble = namespaces.trouble()
    except (SpawnRefusedError, SpawnFailedError) as error:
        trouble = str(error)
    if trouble is not None:
        raise TorcError(
            f"job '{job.name}' has isolation: pid_namespace, and this machine gives this user none: {trouble}",
            _WITHOUT,
        )
