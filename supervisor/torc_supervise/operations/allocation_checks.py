"""What can be known of an allocation before it is queued: jobs that never fit, warnings that come too late.

Queueing for a day to be told so by the supervisor is what this avoids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.capacity import gib
from torc_supervise.errors import TorcError
from torc_supervise.machine import deadlines
from torc_supervise.machine.limits import execution_of_steps
from torc_supervise.slurm.commands import SlurmError
from torc_supervise.slurm.options import AllocationOptions
from torc_supervise.slurm.partitions import Partition, partitions
from torc_supervise.slurm.room import Room, room_of
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.schedulers import SlurmScheduler
from torc_supervise.workflow.signals import parse_signal_spec

NAMED = 10  # jobs in one message


class Finding(Struct, frozen=True):
    """``is_error``: nothing may be queued because of it."""

    message: str
    is_error: bool = False


class Asked(Struct, frozen=True):
    """One kind of allocation that a workflow asks for, with the jobs that run in it."""

    scheduler: SlurmScheduler
    options: AllocationOptions
    jobs: Sequence[Job]
    counts_jobs: bool = False  # max_parallel_jobs: amounts do not matter


def check_allocations(
    workflow: Workflow, asked: Sequence[Asked], later: Sequence[Asked] = ()
) -> list[Finding]:
    """All that the file alone tells.  Asks nobody.

    Args:
        later: allocations that actions may ask for when the workflow runs; a job that fits one of them is no mistake.
    """
    findings: list[Finding] = []
    fitting: set[int] = set()
    for one in later:
        room = room_of(one.options)
        fitting.update(job.job_id for job in one.jobs if _why_not(job, one, room) is None)
    for one in asked:
        room = room_of(one.options)
        findings += _check_walltime(workflow, one, room)
        findings += _check_signal(workflow, one, room)
        findings += _check_nodes(workflow, one, room)
        fitting.update(job.job_id for job in one.jobs if _why_not(job, one, room) is None)
        findings += _listed(one, _long_runtimes(one, room), is_error=False)
        findings += _listed(one, _spanning(workflow, one), is_error=True)
    told: set[int] = set()
    for one in asked:
        room = room_of(one.options)
        bad = [job for job in one.jobs if job.job_id not in fitting and job.job_id not in told]
        told.update(job.job_id for job in bad)
        findings += _listed(
            one, [f"job '{job.name}' {_why_not(job, one, room)}" for job in bad], is_error=True
        )
    return findings


def check_partitions(
    asked: Iterable[Asked], look: Callable[[], dict[str, Partition]] = partitions
) -> list[Finding]:
    """What sinfo knows of the partitions; nothing if it does not answer at once."""
    try:
        known = look()
    except SlurmError:
        return []
    findings: list[Finding] = []
    for one in asked:
        if one.options.states("clusters") or not known:
            continue
        wanted = one.options.value("partition")
        names = wanted.split(",") if wanted else [p.name for p in known.values() if p.is_default]
        there = [known[name] for name in names if name in known]
        missing = [name for name in names if name not in known]
        if missing:
            listed = ", ".join(sorted(known))
            what = f"{_of(one)}: Slurm knows no partition '{missing[0]}'; there are: {listed}"
            findings.append(Finding(what, is_error=not there))
        seconds = room_of(one.options).seconds
        limits = [p.limit for p in there if p.limit is not None]
        if seconds is not None and there and len(limits) == len(there) and seconds > max(limits):
            limit = clock_text(max(limits))
            what = f"partition '{there[0].name}' allows {limit}, the walltime is {clock_text(seconds)}"
            findings.append(Finding(f"{_of(one)}: {what}; Slurm may refuse it, or never start it"))
    return findings


def refuse(findings: Iterable[Finding]) -> None:
    """
    Raises:
        TorcError: with all errors among the findings, if there are any.
    """
    errors = [finding.message for finding in findings if finding.is_error]
    if errors:
        raise TorcError(
            "nothing was queued:\n  " + "\n  ".join(errors),
            "change the slurm_schedulers entry or the jobs' resource_requirements",
        )


def _check_walltime(workflow: Workflow, one: Asked, room: Room) -> Iterator[Finding]:
    if room.seconds is None:
        return
    headroom, longest = workflow.execution.sigkill_headroom_seconds, deadlines.longest_grace(workflow)
    wall = deadlines.fit(0.0, room.seconds, headroom, longest)
    if wall.headroom < headroom or wall.grace_scale < 1.0:
        yield Finding(f"{_of(one)}: {deadlines.shortened_text(wall, room.seconds, headroom, longest)}")


def _check_signal(workflow: Workflow, one: Asked, room: Room) -> Iterator[Finding]:
    spec = one.options.warned_by
    if spec is None or room.seconds is None:
        return
    lead = parse_signal_spec(spec).seconds
    if workflow.execution.mode != "direct":
        workflow = replace(workflow, execution=execution_of_steps(workflow.execution))
    longest = deadlines.longest_grace(workflow)
    wall = deadlines.fit(0.0, room.seconds, workflow.execution.sigkill_headroom_seconds, longest)
    needed = wall.headroom + longest * wall.grace_scale
    if lead < needed:
        yield Finding(
            f"{_of(one)}: Slurm signals {lead} s before the end, and the jobs need {needed:.0f} s (grace "
            f"{longest * wall.grace_scale:.0f} s, headroom {wall.headroom:.0f} s): the supervisor acts by itself, "
            f"{needed:.0f} s before the end"
        )


def _check_nodes(workflow: Workflow, one: Asked, room: Room) -> Iterator[Finding]:
    if room.nodes is not None and room.nodes > 1 and workflow.execution.mode == "direct":
        yield Finding(
            f"{_of(one)}: execution_config.mode is direct, so only the first of its {room.nodes} nodes is used; "
            "with mode: slurm jobs run on all of them"
        )


def _spanning(workflow: Workflow, one: Asked) -> list[str]:
    """Jobs of several nodes where jobs are processes of one."""
    if workflow.execution.mode != "direct" or one.counts_jobs:
        return []
    return [
        f"job '{job.name}' needs {job.requirements.num_nodes} nodes, which takes execution_config.mode: slurm"
        for job in one.jobs
        if job.requirements.num_nodes > 1
    ]


def _why_not(job: Job, one: Asked, room: Room) -> str | None:
    """Why the job can never be completed there."""
    need, runtime = job.requirements, job.requirements.runtime_seconds
    if not one.counts_jobs:
        for what, wanted, there in (
            ("nodes", need.num_nodes, room.nodes),
            ("CPUs on a node", need.num_cpus, room.cpus),
            ("GPUs on a node", need.num_gpus, room.gpus),
        ):
            if there is not None and wanted > there:
                return f"needs {wanted} {what}, and it has {there}"
        if room.memory_bytes is not None and need.memory_bytes > room.memory_bytes:
            return f"needs {gib(need.memory_bytes)} of memory on a node, and it has {gib(room.memory_bytes)}"
    if runtime is None or room.seconds is None or job.supports_termination:
        return None
    if runtime > room.seconds:
        return f"may run {clock_text(runtime)} and cannot save its work; the walltime is {clock_text(room.seconds)}"
    return None


def _long_runtimes(one: Asked, room: Room) -> list[str]:
    return [
        f"job '{job.name}' may run {clock_text(runtime)}, the walltime is {clock_text(room.seconds)}: "
        "it takes more than one allocation"
        for job in one.jobs
        if job.supports_termination
        and (runtime := job.requirements.runtime_seconds) is not None
        and room.seconds is not None
        and runtime > room.seconds
    ]


def _listed(one: Asked, texts: Sequence[str], *, is_error: bool) -> Iterator[Finding]:
    for text in texts[:NAMED]:
        yield Finding(f"{_of(one)}: {text}", is_error=is_error)
    if len(texts) > NAMED:
        yield Finding(f"{_of(one)}: and {len(texts) - NAMED} more jobs like that", is_error=is_error)


def _of(one: Asked) -> str:
    return f"allocation '{one.scheduler.name}'"


def clock_text(seconds: float) -> str:
    """5400 -> "1:30:00", 90 -> "0:01:30"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
