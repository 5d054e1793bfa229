"""Fit: refusing what can never start here, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable

from torc_supervise.errors import TorcError
from torc_supervise.scheduler import Capacity
from torc_supervise.workflow.model import Job

NAMED = 10  # jobs in the message


def check_fit(jobs: Iterable[Job], capacity: Capacity, time_limit: float | None = None) -> None:
    """Refuse jobs that can never start here, all of them at once.

    Args:
        time_limit: seconds that this run has in all, if known: a job that cannot save and needs longer never starts.

    Raises:
        TorcError: naming each job and the limit it breaks.
    """
    found = [(job.name, why) for job in jobs if (why := _never_starts(job, capacity, time_limit)) is not None]
    if not found:
        return
    lines = [f"job '{name}' {why}" for name, why in found[:NAMED]]
    if len(found) > NAMED:
        lines.append(f"and {len(found) - NAMED} more jobs")
    raise TorcError(
        "this machine can never run it:\n  " + "\n  ".join(lines),
        "run it on a larger one or for longer, lower the job's resource_requirements, or say what to count with: "
        "--num-cpus, --memory-gb, --num-gpus, or --max-parallel-jobs to ignore amounts",
    )


def _never_starts(job: Job, capacity: Capacity, time_limit: float | None) -> str | None:
    shortage = capacity.shortage(job.requirements)
    runtime = job.requirements.runtime_seconds
    if shortage is not None or runtime is None or time_limit is None or job.supports_termination:
        return shortage
    if runtime <= time_limit:
        return None
    return f"needs {runtime:.0f} s and cannot save its work; this run has {time_limit:.0f} s in all"
