"""Ending job steps by name: one squeue call, and one scancel call if any of them is there."""

from __future__ import annotations

from typing import Any

from torc_supervise.slurm.commands import SlurmRefused, run

TIMEOUT = 10.0
"""Seconds for each call."""


def end_steps(body: dict[str, Any]) -> dict[str, Any]:
    """The chore ``end_steps``.

    Args:
        body: ``job_id`` of the allocation; ``names`` of steps that are to be over.

    Returns:
        ``ended``: names of those that were there and are canceled now.

    Raises:
        SlurmError: nobody knows.
    """
    names = set(body["names"])
    listing = ["squeue", "--all", "--steps", "--noheader", f"--jobs={body['job_id']}", "--format=%i %j"]
    try:
        lines = run(listing, timeout=TIMEOUT).splitlines()
    except SlurmRefused as error:
        if "invalid job id" in error.said.lower():  # the whole job is gone
            return {"ended": []}
        raise
    left = [words for line in lines if len(words := line.split()) == 2 and words[1] in names]
    if left:
        run(["scancel", *(step_id for step_id, _ in left)], timeout=TIMEOUT)
    return {"ended": sorted(name for _, name in left)}
