"""What a supervisor asks slurmctld about its own job: one squeue call, and once the cluster's KillWait."""

from __future__ import annotations

import re
from typing import Any

from torc_supervise.posix import clock
from torc_supervise.slurm.commands import SlurmError, run
from torc_supervise.slurm.jobs import look

ASK_AT_MOST = 10.0
"""Seconds for one answer.  Beside a run nobody waits for it; at its start everything does."""

_KILL_WAIT = re.compile(r"^KillWait\s*=\s*(\d+)", re.MULTILINE)


def ask(body: dict[str, Any]) -> dict[str, Any]:
    """The chore ``ask_slurm``.

    Args:
        body: ``job_id``, and ``kill_wait``: whether to ask for that too.

    Returns:
        ``ok``: whether Slurm answered, else ``message``.  ``running``, ``state`` (None: there is no such job), ``end``
        (seconds since 1970, None: no limit); ``epoch``, ``mono``, ``boot_offset``: our clocks at that moment;
        ``kill_wait``: seconds, where it was asked for and answered.
    """
    answer: dict[str, Any] = {"kill_wait": None}
    try:
        job = look([body["job_id"]], timeout=ASK_AT_MOST).get(body["job_id"])
    except SlurmError as error:
        return {**answer, "ok": False, "message": first_line(error)}
    answer |= {"epoch": clock.epoch(), "mono": clock.monotonic(), "boot_offset": clock.boot_offset()}
    if body.get("kill_wait"):
        answer["kill_wait"] = kill_wait()
    running = job is not None and (job.is_running or job.state == "CONFIGURING")
    return {
        **answer,
        "ok": True,
        "running": running,
        "state": job.state if job is not None else None,
        "end": job.end if job is not None else None,
    }


def kill_wait() -> float | None:
    """Seconds between Slurm's SIGTERM and its SIGKILL; None where nobody says."""
    try:
        found = _KILL_WAIT.search(run(["scontrol", "show", "config"], timeout=ASK_AT_MOST))
    except SlurmError:
        return None
    return float(found[1]) if found is not None else None


def first_line(error: SlurmError) -> str:
    """What Slurm said, on one line."""
    return (error.said or error.message).strip().partition("\n")[0]
