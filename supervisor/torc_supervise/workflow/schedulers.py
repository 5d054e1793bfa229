"""``slurm_schedulers`` and who asks for them: which allocations a workflow wants, and which jobs run in which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from torc_supervise.workflow.model import Job, Workflow

DEFAULT_WALLTIME = "01:00:00"


class SlurmScheduler(Struct, frozen=True):
    """One entry of ``slurm_schedulers``, as it was written; None where it is silent."""

    name: str
    account: str
    nodes: int = 1
    walltime: str = DEFAULT_WALLTIME
    partition: str | None = None
    qos: str | None = None
    mem: str | None = None
    gres: str | None = None
    tmp: str | None = None
    ntasks_per_node: int | None = None
    serialize_allocations: bool = False
    extra: str | None = None


class ScheduleAction(Struct, frozen=True):
    """An action that asks for allocations of a Slurm scheduler.  ``index``: its position in ``actions``, from 0."""

    index: int
    trigger: str
    scheduler: str
    num_allocations: int = 1
    start_one_worker_per_node: bool = False
    max_parallel_jobs: int | None = None


def slurm_schedulers(workflow: Workflow) -> dict[str, SlurmScheduler]:
    """The entries that have a name, by name, in file order."""
    found = {}
    for entry in workflow.extra.get("slurm_schedulers") or ():
        values = {key: value for key, value in entry.items() if key in SlurmScheduler.__struct_fields__}
        for key in ("walltime", "mem", "gres", "tmp"):
            if key in values:
                values[key] = str(values[key])  # a bare number is as good as text there
        if values.get("name"):
            found[values["name"]] = SlurmScheduler(**values)
    return found


def schedule_actions(workflow: Workflow) -> list[ScheduleAction]:
    """The actions that ask for Slurm allocations, in file order."""
    return [
        _schedule_action(index, entry)
        for index, entry in enumerate(workflow.extra.get("actions") or ())
        if entry.get("action_type") == "schedule_nodes" and entry.get("scheduler_type", "slurm") == "slurm"
    ]


def runs_in(workflow: Workflow, scheduler: str | None) -> Callable[[Job], bool]:
    """Whether a job is run in an allocation of that scheduler.

    A job that is bound to another scheduler waits for an allocation of that one, if some action ever asks for it;
    otherwise it would wait for ever, so it runs anywhere.

    Args:
        scheduler: None outside of an allocation of ours, where all jobs run.
    """
    if scheduler is None:
        return lambda job: True
    elsewhere = {action.scheduler for action in schedule_actions(workflow)} - {scheduler}
    return lambda job: job.scheduler not in elsewhere


def _schedule_action(index: int, entry: Mapping[str, Any]) -> ScheduleAction:
    return ScheduleAction(
        index,
        entry["trigger_type"],
        entry["scheduler"],
        entry.get("num_allocations") or 1,
        bool(entry.get("start_one_worker_per_node")),
        entry.get("max_parallel_jobs"),
    )
