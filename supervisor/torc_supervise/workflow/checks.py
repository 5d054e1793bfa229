"""What must hold between the parts of a workflow: unique names, references of actions, no cycle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torc_supervise.workflow.expand import ExpandedFile, ExpandedJob
from torc_supervise.workflow.graph import find_cycle
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


def check_job_references(spec: WorkflowSpec, jobs: Iterable[ExpandedJob], report: Report) -> None:
    """Report unknown requirements, schedulers and failure handlers of jobs."""
    known = {
        "resource_requirements": dict.fromkeys(
            [RESERVED_REQUIREMENTS, *(entry.name for entry in spec.resource_requirements)]
        ),
        "scheduler": dict.fromkeys(entry.name for entry in spec.slurm_schedulers if entry.name),
        "failure_handler": dict.fromkeys(entry.name for entry in spec.failure_handlers),
    }
    sections = {
        "resource_requirements": "resource_requirements entry",
        "scheduler": "slurm_schedulers entry",
        "failure_handler": "failure_handlers entry",
    }
    for job in jobs:
        used = (
            ("resource_requirements", job.requirements),
            ("scheduler", job.scheduler),
            ("failure_handler", job.spec.failure_handler),
        )
        for field, name in used:
            if name is not None and name not in known[field]:
                message = f"no {sections[field]} named {quoted(name)}"
                report.error(*job.spec.at(field), message, partial(did_you_mean, name, known[field]))


def check_actions(spec: WorkflowSpec, references: References, report: Report) -> None:
    """Report what actions lack and what they refer to in vain."""
    schedulers = [entry.name for entry in spec.slurm_schedulers if entry.name]
    for action in spec.actions:
        references.find("job", action.jobs, action, "jobs")
        references.match("job", action.job_name_regexes, action, "job_name_regexes")
        names_jobs = action.states("jobs") or action.states("job_name_regexes")
        if action.trigger_type in ("on_jobs_ready", "on_jobs_complete") and not names_jobs:
            message = f"{action.trigger_type} needs 'jobs' or 'job_name_regexes'"
            report.error(action.origin, action.where, message)
        if action.action_type == "run_commands" and not action.commands and not _invalid(action, "commands"):
            report.error(action.origin, action.where, "run_commands needs a list of 'commands'")
        if action.action_type == "schedule_nodes":
            _check_schedule(action, schedulers, report)


def _invalid(action: ActionSpec, field: str) -> bool:
    """Whether a field was reported already: it is there, and not an empty list."""
    return bool(action.states(field) and getattr(action.at(field)[0], "items", True))


def _check_schedule(action: ActionSpec, schedulers: Sequence[str], report: Report) -> None:
    for field in ("scheduler_type", "scheduler"):
        if not action.states(field):
            report.error(action.origin, action.where, f"schedule_nodes needs {quoted(field)}")
    if action.scheduler_type == "slurm" and action.scheduler and action.scheduler not in schedulers:
        hint = did_you_mean(action.scheduler, schedulers)
        if not schedulers:
            hint = "the workflow has no slurm_schedulers with a name"
        report.error(
            *action.at("scheduler"), f"no slurm_schedulers entry named {quoted(action.scheduler)}", hint
        )


def check_cycle(jobs: Sequence[ResolvedJob], report: Report) -> None:
    """Report one circle of jobs that wait for each other, at the place of one of its edges."""
    cycle = find_cycle([job.depends_on for job in jobs])
    if cycle is None:
        return
    names = [jobs[position].job.name for position in (*cycle, cycle[0])]
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
    if needed.job.name in job.links[0]:
        return spec.at("depends_on", job.links[0].index(needed.job.name))
    for number, pattern in enumerate(job.links[1]):
        if waiting is not needed and compile_regex(pattern).search(needed.job.name):
            return spec.at("depends_on_regexes", number)
    for kind in ("files", "user_data"):
        written = set(needed.uses.get(f"output_{kind}", ()))
        for number, name in enumerate(waiting.uses.get(f"input_{kind}", ())):
            if name in written:
                return spec.at(f"input_{kind}", number)
    return spec.at("name")
