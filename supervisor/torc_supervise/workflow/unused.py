"""Warnings of what a file says in vain: fields without effect, entries that nothing uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torc_supervise.workflow.expand import ExpandedFile
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.references import ResolvedJob
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.spec import WorkflowSpec

_OF_TERMINATION = ("termination_signal", "sigterm_lead_seconds", "checkpoint")


def warn_of_no_effect(spec: WorkflowSpec, report: Report) -> None:
    """Warn of fields of jobs that only a job with ``supports_termination: true`` has a use for."""
    for job in spec.jobs:
        if job.supports_termination:
            continue
        for field in _OF_TERMINATION:
            if job.states(field):
                message = "has no effect without supports_termination: true"
                report.warn(*job.at(field), message)


def warn_of_unused(
    spec: WorkflowSpec, files: Iterable[ExpandedFile], resolved: Sequence[ResolvedJob], report: Report
) -> None:
    """Warn of files, user_data and requirements that no job uses: once for an entry, not for all that it makes."""
    used: dict[str, set[str]] = {"files": set(), "user_data": set()}
    requirements: set[str | None] = set()
    seen: set[int] = set()
    for item in resolved:
        requirements.add(item.job.requirements)
        if id(item.uses) not in seen:  # jobs of a sweep may share one
            seen.add(id(item.uses))
            for field, names in item.uses.items():
                used[field.partition("_")[2]].update(names)
    idle: dict[int, ExpandedFile | None] = {}
    for file in files:
        if file.name in used["files"]:
            idle[id(file.spec)] = None
        else:
            idle.setdefault(id(file.spec), file)
    for file in filter(None, idle.values()):
        report.warn(*file.spec.at("name"), f"no job uses the file {quoted(file.spec.name)}")
    for data in spec.user_data:
        if data.name and data.name not in used["user_data"]:
            report.warn(*data.at("name"), f"no job uses the user_data {quoted(data.name)}")
    for entry in spec.resource_requirements:
        if entry.name not in requirements:
            report.warn(*entry.at("name"), f"no job uses the requirements {quoted(entry.name)}")
