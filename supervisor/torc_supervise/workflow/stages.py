"""What running a workflow would take: its stages and the widest of them."""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.workflow.graph import levels
from torc_supervise.workflow.model import Job, Workflow


class Stage(Struct, frozen=True):
    """Jobs that could all run at once, and what they ask for together; ``number`` counts from 1.

    ``memory_bytes`` is the sum of what jobs state, ``memory_not_stated`` counts the jobs that state none.
    """

    number: int
    jobs: tuple[Job, ...]
    num_cpus: int
    memory_bytes: int
    num_gpus: int
    memory_not_stated: int


class Plan(Struct, frozen=True):
    """A workflow by stages.  ``widest`` is the stage with the most jobs (the first of equals), None without jobs.

    ``dependencies`` counts the pairs of a job and one that it waits for, ``supports_termination`` the jobs that save
    their work when they are told to end.
    """

    stages: tuple[Stage, ...]
    widest: Stage | None
    jobs: int
    files: int
    user_data: int
    dependencies: int
    supports_termination: int


def plan(workflow: Workflow) -> Plan:
    """The stages of a workflow: a job's stage is one after the latest of the jobs that it waits for.

    Args:
        workflow: as :func:`torc_supervise.workflow.load` gives it; it has no cycles.
    """
    position = {job.job_id: index for index, job in enumerate(workflow.jobs)}
    depth = levels([[position[needed] for needed in job.depends_on] for job in workflow.jobs])
    members: list[list[Job]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for job, level in zip(workflow.jobs, depth, strict=True):
        members[level].append(job)
    stages = tuple(_stage(number, jobs) for number, jobs in enumerate(members, start=1))
    return Plan(
        stages=stages,
        widest=max(stages, key=lambda stage: len(stage.jobs), default=None),
        jobs=len(workflow.jobs),
        files=len(workflow.files),
        user_data=len(workflow.user_data),
        dependencies=sum(len(job.depends_on) for job in workflow.jobs),
        supports_termination=sum(job.supports_termination for job in workflow.jobs),
    )


def _stage(number: int, jobs: list[Job]) -> Stage:
    needs = [job.requirements for job in jobs]
    return Stage(
        number=number,
        jobs=tuple(jobs),
        num_cpus=sum(need.num_cpus for need in needs),
        memory_bytes=sum(need.memory_bytes for need in needs if need.memory_stated),
        num_gpus=sum(need.num_gpus for need in needs),
        memory_not_stated=sum(not need.memory_stated for need in needs),
    )
