"""scancel: taking queued jobs back, ending running ones, and the signal that only says "look"."""

from __future__ import annotations

from collections.abc import Iterable

from torc_supervise.slurm.commands import ANSWER_WITHIN, SlurmRefused, run

NUDGE = "URG"
"""See ``posix.wakeup.NUDGE``: a program that does not know it takes no notice."""


def cancel(job_ids: Iterable[str], *, timeout: float = ANSWER_WITHIN) -> None:
    """Cancel these jobs, queued or running.  One that is gone already is no error.

    Raises:
        SlurmError: it was not done.
    """
    _scancel(list(job_ids), timeout)


def nudge(job_id: str, *, timeout: float = ANSWER_WITHIN) -> None:
    """Tell the supervisor in a running job that something was left for it.

    Raises:
        SlurmError: the signal did not go out.
    """
    try:
        run(["scancel", "--batch", f"--signal={NUDGE}", job_id], timeout=timeout)
    except SlurmRefused:
        # Of salloc: there is no batch script, and the supervisor may be a step.
        run(["scancel", f"--signal={NUDGE}", job_id], timeout=timeout)


def _scancel(job_ids: list[str], timeout: float) -> None:
    if not job_ids:
        return
    try:
        run(["scancel", *job_ids], timeout=timeout)
    except SlurmRefused as error:
        if not _only_gone(error.said):
            raise


def _only_gone(said: str) -> bool:
    """scancel complains about each job by itself, and goes on with the next."""
    texts = ("invalid job id", "job/step already completing or completed")
    lines = [line.lower() for line in said.splitlines() if line.strip()]
    return bool(lines) and all(any(text in line for text in texts) for line in lines)
