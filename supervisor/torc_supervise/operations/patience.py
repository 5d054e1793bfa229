"""An allocation that starts while somebody still holds its workflow's lock."""

from __future__ import annotations

import os
import threading

from torc_supervise.errors import WorkflowBusy
from torc_supervise.operations.opened import OpenWorkflow, Say, open_workflow
from torc_supervise.posix import clock
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Owner, read_owner

LONGEST = 60.0
"""Seconds.  ``submit`` holds the lock from before sbatch until the job's id is written down, a moment later."""

LOOK_EVERY = 0.2
"""Seconds.  The lock is a file on a shared file system, which tells nobody on another host that it is gone."""

JUDGE_EVERY = 5.0
"""Seconds between looks at whether the lock's owner is still alive."""


def open_when_free(files: WorkflowFiles, command: str, say: Say) -> OpenWorkflow:
    """As ``open_workflow``; inside an allocation, a command that holds the workflow for a moment is waited for.

    Race: Slurm may start a job before sbatch has returned its id, while ``submit`` holds the lock.  Being refused would
    throw the allocation away.  Test: test_patience.py::test_a_job_that_starts_at_once_waits_for_submit.

    Raises:
        WorkflowBusy: another supervisor has it, or the other command held it for too long.
    """
    limit = clock.monotonic() + (LONGEST if os.environ.get("SLURM_JOB_ID") else 0.0)
    told = False
    while True:
        try:
            return open_workflow(files, command, say, patient=True)
        except WorkflowBusy:
            owner = read_owner(files.lock)
            if (owner is not None and owner.command == "run") or clock.monotonic() >= limit:
                raise
            if owner is not None and not told:
                say(f"waiting up to {LONGEST:.0f} s for {owner.describe()}")
                told = True
            _wait_for_change(files, owner, limit)


def _wait_for_change(files: WorkflowFiles, owner: Owner | None, limit: float) -> None:
    """Looks at the lock alone: whether its owner lives may be a question to Slurm, which is asked now and then."""
    never, until = threading.Event(), min(limit, clock.monotonic() + JUDGE_EVERY)
    while True:
        # No job runs yet that a signal could be late for, and a signal's default action still applies.
        never.wait(LOOK_EVERY)
        if owner is None or read_owner(files.lock) != owner or clock.monotonic() >= until:
            return
