"""Chores about allocations: what is canceled in Slurm's queue, and whether files were replaced meanwhile."""

from __future__ import annotations

import os
from typing import Any

from torc_supervise.slurm.commands import SlurmRefused, run

Body = dict[str, Any]

SHORTEST = 1.0  # seconds that one of Slurm's programs gets in any case


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
