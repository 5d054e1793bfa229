"""Actions: the entries of ``actions`` as the rest of the program reads them, with their jobs resolved to ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from torc_supervise.workflow.model import JobId, Workflow

JOB_IDS = "job_ids"  # key that the workflow's author does not write: what jobs and job_name_regexes stand for


class Action(Struct, frozen=True):
    """One entry.  ``index``: its position in the file, from 0.  ``job_ids``: the jobs of an on_jobs_* trigger."""

    index: int
    trigger: str
    kind: str  # run_commands or schedule_nodes
    job_ids: tuple[JobId, ...] = ()
    commands: tuple[str, ...] = ()
    scheduler: str | None = None
    scheduler_type: str | None = None
    num_allocations: int = 1
    start_one_worker_per_node: bool = False
    max_parallel_jobs: int | None = None
    persistent: bool = False

    @property
    def title(self) -> str:
        """For people: ``action 2 (on_jobs_ready, schedule_nodes)``, counted as a person counts."""
        return f"action {self.index + 1} ({self.trigger}, {self.kind})"


def actions_of(workflow: Workflow) -> tuple[Action, ...]:
    """All entries of a workflow, in file order."""
    return tuple(_action(index, entry) for index, entry in enumerate(workflow.extra.get("actions") or ()))


def with_job_ids(
    entries: Sequence[Mapping[str, Any]], job_ids: Sequence[Sequence[JobId]]
) -> list[dict[str, Any]]:
    """The plain entries, each with the ids that its names and patterns stand for."""
    return [
        {**entry, JOB_IDS: list(ids)} if ids else dict(entry)
        for entry, ids in zip(entries, job_ids, strict=True)
    ]


def renumbered(extra: Mapping[str, Any], ids: Mapping[JobId, JobId]) -> dict[str, Any]:
    """``Workflow.extra`` of a workflow whose jobs got other ids."""
    if not extra.get("actions"):
        return dict(extra)
    job_ids = [sorted(ids[job_id] for job_id in entry.get(JOB_IDS, ())) for entry in extra["actions"]]
    return {**extra, "actions": with_job_ids(extra["actions"], job_ids)}


def written(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What its author wrote: two entries that say the same are the same action."""
    return {name: value for name, value in entry.items() if name != JOB_IDS}


def _action(index: int, entry: Mapping[str, Any]) -> Action:
    return Action(
        index,
        entry["trigger_type"],
        entry["action_type"],
        tuple(entry.get(JOB_IDS, ())),
        tuple(entry.get("commands", ())),
        entry.get("scheduler"),
        entry.get("scheduler_type"),
        entry.get("num_allocations", 1),
        entry.get("start_one_worker_per_node", False),
        entry.get("max_parallel_jobs"),
        entry.get("persistent", False),
    )
