"""Chores about allocations: queueing the next one, canceling others, and whether files were replaced meanwhile."""

from __future__ import annotations

import os
from typing import Any

from torc_supervise.errors import TorcError
from torc_supervise.machine.triggers import COMPLETE
from torc_supervise.slurm import submission
from torc_supervise.slurm.batch import RunSettings, write_script
from torc_supervise.slurm.commands import SlurmRefused, run
from torc_supervise.store import journal
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.schedulers import runs_in, slurm_schedulers

Body = dict[str, Any]

PAUSE = 5.0
"""Seconds between two tries of sbatch: there may be only a minute left."""

SHORTEST = 1.0  # seconds that one of Slurm's programs gets in any case


def queue_allocation(body: Body) -> Body:
    """Chore: write the batch script of a further allocation and submit it; to be done once.

    Args:
        body: ``output``, ``workflow_id``, ``scheduler``, ``after`` (the Slurm job it waits for), ``auto_resubmit`` and
            ``max_parallel_jobs`` for the script, ``within``: seconds in which slurmctld has to answer.

    Returns:
        ``slurm_job_id``, ``cluster``, ``scheduler``, ``script``, ``output``, ``error``, ``auto_resubmit``.

    Raises:
        TorcError, OSError: it is not known to be queued.
    """
    files = WorkflowFiles(body["output"], body["workflow_id"])
    state, _ = journal.replay(files.journal)
    scheduler = slurm_schedulers(state.workflow).get(body["scheduler"] or "")
    if scheduler is None:
        raise TorcError(f"no slurm_schedulers entry named '{body['scheduler']}'")
    mine = runs_in(state.workflow, scheduler.name)
    left = [j for j in state.workflow.jobs if state.status[j.job_id] not in COMPLETE and mine(j)]
    settings = RunSettings(body["auto_resubmit"], body["max_parallel_jobs"])
    script = write_script(state.workflow, files, state.directory or os.getcwd(), scheduler, left, settings)
    tries = 1 + int(body["within"] // PAUSE)
    queued = submission.submit(script, lambda text: None, after=body["after"], tries=tries, pause=PAUSE)
    return {
        "slurm_job_id": queued.slurm_job_id,
        "cluster": queued.cluster,
        "scheduler": scheduler.name,
        "script": script.path,
        "output": files.batch_output(queued.slurm_job_id, "o"),
        "error": files.batch_output(queued.slurm_job_id, "e"),
        "auto_resubmit": body["auto_resubmit"],
    }


def cancel_allocations(body: Body) -> Body:
    """Chore: scancel of ``job_ids``, which has ``within`` seconds.  One that is gone already is no error.

    Raises:
        SlurmError: they are not known to be canceled.
    """
    try:
        run(["scancel", *body["job_ids"]], timeout=max(SHORTEST, body["within"]))
    except SlurmRefused as error:
        if "invalid job id" not in error.said.lower():
            raise
    return {}


def look_at_files(body: Body) -> Body:
    """Chore: what each of ``paths`` (by any key) is now: inode, size and modification time, or null."""
    return {"seen": {key: _identity(path) for key, path in body["paths"].items()}}


def _identity(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]
