"""Where a workflow's allocations are, as Slurm says: asked here for status, cancel, sync-status and submit.

The journal knows what was queued and what has run; Slurm knows what became of it since.  Asked with one squeue call,
and only where something is on record that is not known to be over.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from msgspec import Struct

from torc_supervise.posix import clock
from torc_supervise.slurm.commands import SlurmError
from torc_supervise.slurm.jobs import SlurmJob, look
from torc_supervise.slurm.site import cluster_name
from torc_supervise.store.lock import Owner

STATUS_WITHIN = 3.0
"""Seconds that ``status`` waits for Slurm: a person waits for it, and the rest of the answer is there."""

DECIDE_WITHIN = 15.0
"""Seconds for commands that cannot do without; Slurm's own programs wait 10 s for a message by default."""

RESTARTED_AFTER = 30.0
"""Seconds that a job's start may be later than that of its supervisor by the clocks of two hosts.  Beyond that it was
started again, and the supervisor on record is from before."""

GONE = "gone"
_OPEN = ("queued", "running")
_WORK_LEFT = ("ready", "terminated")


class Whereabouts(Struct, frozen=True):
    """``jobs``: by id, of those that were asked for and that Slurm knows.  ``problem``: why it was not asked, or said
    nothing; nothing is known then.
    """

    asked: tuple[str, ...]
    jobs: dict[str, SlurmJob] = {}
    problem: str | None = None

    @property
    def known(self) -> bool:
        return self.problem is None

    def is_gone(self, slurm_job_id: str) -> bool:
        """Slurm was asked, answered, and has nothing of that job that runs or will."""
        job = self.jobs.get(slurm_job_id)
        return self.known and slurm_job_id in self.asked and (job is None or job.is_over)

    @property
    def queued(self) -> list[str]:
        return [job_id for job_id in self.asked if job_id in self.jobs and self.jobs[job_id].is_queued]

    @property
    def running(self) -> list[str]:
        """Their processes may run; of those that Slurm is ending too."""
        found = [(job_id, self.jobs.get(job_id)) for job_id in self.asked]
        return [job_id for job_id, job in found if job is not None and (job.is_running or job.is_ending)]


def wanted(head: dict[str, Any]) -> list[str]:
    """Ids of allocations that may still be something, from the head of a status document.

    The newest one is asked for while work is left and nobody does it, even if its supervisor has ended: Slurm may have
    requeued it.
    """
    rows = head.get("allocations") or []
    supervisor = head.get("supervisor") or {}
    found = [row["slurm_job_id"] for row in rows if row["state"] in _OPEN]
    if supervisor.get("alive") and supervisor.get("slurm_job_id"):
        found.append(supervisor["slurm_job_id"])
    if rows and head["state"] in _WORK_LEFT and rows[-1]["state"] == "ended":
        found.append(rows[-1]["slurm_job_id"])
    return list(dict.fromkeys(found))


def ask(head: dict[str, Any], *, timeout: float = DECIDE_WITHIN) -> Whereabouts:
    """Ask Slurm, once, for at most ``timeout`` seconds, about :func:`wanted`.  That it does not answer is an answer."""
    asked = tuple(wanted(head))
    if not asked:
        return Whereabouts(())
    try:
        found = look(asked, timeout=timeout)
    except SlurmError as error:
        return Whereabouts(asked, problem=error.message.splitlines()[0])
    return Whereabouts(asked, found, _on_another_cluster(head, set(asked) - found.keys()))


def _on_another_cluster(head: dict[str, Any], missing: set[str]) -> str | None:
    """Why a job that Slurm does not know is not gone: another cluster was asked, where the same files are seen."""
    rows = head.get("allocations") or []
    elsewhere = {row["cluster"] for row in rows if row["slurm_job_id"] in missing and row["cluster"]}
    here = cluster_name(os.environ) if elsewhere else None
    others = sorted(elsewhere - {here})
    return (
        f"its allocation is on cluster {others[0]}, this is {here}" if here is not None and others else None
    )


def squeue_is_here() -> bool:
    """Whether there is a Slurm to be asked; shutil.which without its import."""
    return any(os.access(os.path.join(place, "squeue"), os.X_OK) for place in os.get_exec_path())


def supervisor_is_gone(head: dict[str, Any], seen: Whereabouts, owner: Owner | None) -> bool:
    """The supervisor on record was in an allocation that is over, or that Slurm has queued or started again since.

    Args:
        owner: of the lock.  One that only has Slurm's variables, and was not started by slurmd, may outlive the job.
    """
    supervisor = head.get("supervisor") or {}
    slurm_job_id = supervisor.get("slurm_job_id")
    if owner is not None and owner.slurm_node is None:
        return False
    if slurm_job_id is None or not seen.known or slurm_job_id not in seen.asked:
        return False
    job = seen.jobs.get(slurm_job_id)
    if job is None or job.is_over or job.is_queued:
        return True
    if job.start is None or not job.is_running:
        return False
    return job.start > datetime.fromisoformat(supervisor["started"]).timestamp() + RESTARTED_AFTER


def merged(head: dict[str, Any], seen: Whereabouts, owner: Owner | None) -> dict[str, Any]:
    """The head of a status document with what Slurm says.

    ``slurm``: "answered", or why not.  Each of ``allocations`` has its ``slurm_state`` and times; ``supervisor`` has
    ``slurm_state`` and is not alive where its allocation is gone, and ``state`` is then ``terminated``.
    """
    rows = [{**row, **_fields(row["slurm_job_id"], seen)} for row in head.get("allocations") or []]
    supervisor = head.get("supervisor")
    changes: dict[str, Any] = {"allocations": rows, "slurm": seen.problem or "answered"}
    if supervisor and supervisor.get("slurm_job_id") in seen.asked and seen.known:
        job = seen.jobs.get(supervisor["slurm_job_id"])
        changes["supervisor"] = {**supervisor, "slurm_state": job.state if job else GONE}
        if supervisor["alive"] and supervisor_is_gone(head, seen, owner):
            changes["supervisor"]["alive"] = False
            changes["state"] = "terminated"
    return {**head, **changes}


def _fields(slurm_job_id: str, seen: Whereabouts) -> dict[str, Any]:
    if not seen.known or slurm_job_id not in seen.asked:
        return {}
    job = seen.jobs.get(slurm_job_id)
    if job is None:
        return {"state": GONE, "slurm_state": None}
    found: dict[str, Any] = {"state": _state(job), "slurm_state": job.state}
    for name in ("reason", "dependency", "nodes", "partition"):
        found[name] = getattr(job, name)
    times = {"submit_time": job.submitted, "end_time": None if job.is_queued else job.end}
    times["expected_start" if job.is_queued else "start_time"] = job.start
    return found | {name: None if at is None else clock.iso(at) for name, at in times.items()}


def _state(job: SlurmJob) -> str:
    if job.is_queued:
        return "queued"
    if job.is_running:
        return "running"
    return "ending" if job.is_ending else "ended"
