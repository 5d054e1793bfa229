"""What must hold between the parts of a workflow: unique names, references of actions, no cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torc_supervise.workflow.containers import HOLE
from torc_supervise.workflow.doubt import Doubt
from torc_supervise.workflow.expand import ExpandedFile, ExpandedJob
from torc_supervise.workflow.graph import find_cycles
from torc_supervise.workflow.names import compile_regex
from torc_supervise.workflow.nodes import Node
from torc_supervise.workflow.problems import did_you_mean, quoted
from torc_supervise.workflow.records import Record
from torc_supervise.workflow.references import References, ResolvedJob
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.spec import WorkflowSpec
from torc_supervise.workflow.spec_slurm import ActionSpec

RESERVED_REQUIREMENTS = "default"  # the entry of jobs that state no requirements
_SHOWN_OF_CYCLE = 10


def check_unique(items: Iterable[Any], noun: str, report: Report) -> None:
    """Report names that occur twice among items with ``name`` and either ``at`` or ``spec``."""
    first: dict[str, Any] = {}
    for item in items:
        name: str | None = item.name
        if not name:  # missing or invalid, which was reported
            continue
        earlier = first.setdefault(name, item)
        if earlier is item:
            continue
        spec: Record = getattr(item, "spec", item)
        earlier_spec: Record = getattr(earlier, "spec", earlier)
        if spec is earlier_spec:
            message = f"this makes more than one {noun} named {quoted(name)}"
            hint = "put every parameter into the name, for example 'work_{i}'"
            report.error(*spec.at("name"), message, hint)
        else:
            message = (
                f"there is already a {noun} named {quoted(name)}, on line {earlier_spec.at('name')[0].line}"
            )
            report.error(*spec.at("name"), message)


def check_paths(files: Iterable[ExpandedFile], report: Report) -> None:
    """Warn of two files with one path: dependencies go by name and would miss that they are the same."""
    first: dict[str, ExpandedFile] = {}
    warned: set[int] = set()
    for file in files:
        earlier = first.setdefault(file.path, file)
        if earlier is not file and earlier.name != file.name and id(file.spec) not in warned:
            warned.add(id(file.spec))
            message = f"the files {quoted(earlier.name)} and {quoted(file.name)} have the same path {quoted(file.path)}"
            report.warn(*file.spec.at("path"), message)


def check_requirements(spec: WorkflowSpec, report: Report) -> None:
    """Report repeated and reserved names of resource_requirements."""
    check_unique(spec.resource_requirements, "resource_requirements entry", report)
    for entry in spec.resource_requirements:
        if entry.name == RESERVED_REQUIREMENTS:
            message = f"the name {quoted(entry.name)} is reserved for jobs without requirements"
            report.error(*entry.at("name"), message, "choose another name")


def check_job_references(
    spec: WorkflowSpec, jobs: Iterable[ExpandedJob], doubts: Mapping[str, Doubt], report: Report
) -> None:
    """Report unknown requirements, schedulers and failure handlers of jobs."""
    known = {
        "resource_requirements": dict.fromkeys(
            [RESERVED_REQUIREMENTS, *(entry.name for entry in spec.resource_requirements)]
        ),
        "scheduler": dict.fromkeys(entry.name for entry in spec.slurm_schedulers if entry.name),
        "failure_handler": dict.fromkeys(entry.name for entry in spec.failure_handlers),
    }
    sections = {
        "resource_requirements": "resource_requirements",
        "scheduler": "slurm_schedulers",
        "failure_handler": "failure_handlers",
    }
    for job in jobs:
        used = (
            ("resource_requirements", job.requirements),
            ("scheduler", job.scheduler),
            ("failure_handler", job.spec.failure_handler),
        )
        for field, name in used:
            if name is not None and name not in known[field] and not doubts[sections[field]].may_be(name):
                message = f"no {sections[field]} entry named {quoted(name)}"
                report.error(*job.spec.at(field), message, partial(did_you_mean, name, known[field]))


def check_isolation(spec: WorkflowSpec, report: Report) -> None:
    """Report jobs that are to have a namespace of their own and will be job steps."""
    mode = spec.execution_config.mode if spec.execution_config is not None else "direct"
    if mode != "slurm" and not (mode == "auto" and spec.slurm_schedulers):
        return
    for job in spec.jobs:
        if job.isolation not in (None, "none"):
            message = f"'isolation: {job.isolation}' needs mode: direct, but execution_config.mode is {mode}"
            report.error(*job.at("isolation"), message, "remove it or write mode: direct")


def check_actions(
    spec: WorkflowSpec, references: References, doubts: Mapping[str, Doubt], report: Report
) -> list[tuple[int, ...]]:
    """Report what actions lack and what they refer to in vain.

    Returns:
        for each action the positions of its jobs, ascending, from 0.
    """
    schedulers = [entry.name for entry in spec.slurm_schedulers if entry.name]
    jobs_of_actions = []
    positions = references.index["job"].positions
    for action in spec.actions:
        found = set(references.find("job", action.jobs, action, "jobs"))
        found.update(*references.match("job", action.job_name_regexes, action, "job_name_regexes"))
        jobs_of_actions.append(tuple(sorted(positions[name] for name in found)))
        names_jobs = any(_gives(action, field) for field in ("jobs", "job_name_regexes"))
        if action.trigger_type in ("on_jobs_ready", "on_jobs_complete") and not names_jobs:
            message = f"{action.trigger_type} needs 'jobs' or 'job_name_regexes'"
            report.error(action.origin, action.where, message)
        if action.action_type == "run_commands" and not action.commands and "commands" not in action.broken:
            report.error(action.origin, action.where, "run_commands needs a list of 'commands'")
        if action.action_type == "schedule_nodes":
            _check_schedule(action, schedulers, doubts["slurm_schedulers"], report)
    return jobs_of_actions


def _gives(action: ActionSpec, field: str) -> bool:
    """Whether a field is there, be it with a mistake that was reported."""
    return action.states(field) or field in action.broken


def _check_schedule(action: ActionSpec, schedulers: Sequence[str], doubt: Doubt, report: Report) -> None:
    for field in ("scheduler_type", "scheduler"):
        if not _gives(action, field):
            report.error(action.origin, action.where, f"schedule_nodes needs {quoted(field)}")
    name = action.scheduler
    if action.scheduler_type == "slurm" and name and name not in schedulers and not doubt.may_be(name):
        hint = did_you_mean(name, schedulers)
        if not schedulers:
            hint = "the workflow has no slurm_schedulers with a name"
        report.error(*action.at("scheduler"), f"no slurm_schedulers entry named {quoted(name)}", hint)


def check_cycles(jobs: Sequence[ResolvedJob], report: Report) -> None:
    """Report the circles of jobs that wait for each other, each at the place of one of its edges."""
    for cycle in find_cycles([job.depends_on for job in jobs]):
        _report_cycle(jobs, cycle, report)


def _report_cycle(jobs: Sequence[ResolvedJob], cycle: Sequence[int], report: Report) -> None:
    names = [jobs[position].job.title for position in (*cycle, cycle[0])]
    if len(names) > _SHOWN_OF_CYCLE + 1:
        names[_SHOWN_OF_CYCLE - 1 : -1] = [f"... {len(names) - _SHOWN_OF_CYCLE} more ..."]
    waiting = jobs[cycle[0]]
    needed = jobs[cycle[1 % len(cycle)]]
    what = "the job waits for itself" if len(cycle) == 1 else "these jobs wait for each other"
    report.error(
        *_edge_place(waiting, needed), f"{what}: {' -> '.join(names)}", "remove one of the dependencies"
    )


def _edge_place(waiting: ResolvedJob, needed: ResolvedJob) -> tuple[Node, str]:
    """Where the file says that one job waits for the other."""
    job = waiting.job
    spec = job.spec
    name = needed.job.name
    if name and name in job.links[0]:
        return spec.at("depends_on", job.links[0].index(name))
    for number, pattern in enumerate(job.links[1]):
        if name and waiting is not needed and _finds(pattern, name):
            return spec.at("depends_on_regexes", number)
    for kind in ("files", "user_data"):
        written = set(needed.uses.get(f"output_{kind}", ()))
        for number, name in enumerate(waiting.uses.get(f"input_{kind}", ())):
            if name in written:
                return spec.at(f"input_{kind}", number)
    return spec.at("name")


def _finds(pattern: str, name: str) -> bool:
    try:
        return pattern is not HOLE and compile_regex(pattern).search(name) is not None
    except ValueError:  # which was reported
        return False
