"""A workflow file to a validated, expanded workflow."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from torc_supervise.workflow import checks, model
from torc_supervise.workflow.build import build_workflow
from torc_supervise.workflow.doubt import Doubt, is_unreadable
from torc_supervise.workflow.expand import Expansion
from torc_supervise.workflow.inert import warn_not_acted_on
from torc_supervise.workflow.nodes import Mapping
from torc_supervise.workflow.problems import Problem, SpecError
from torc_supervise.workflow.references import References
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.source import Source, parse_source, read_source
from torc_supervise.workflow.spec import FileSpec, JobSpec, WorkflowSpec, read_spec
from torc_supervise.workflow.spec_execution import check_mode
from torc_supervise.workflow.spec_slurm import check_rules
from torc_supervise.workflow.unused import warn_of_no_effect, warn_of_unused

if TYPE_CHECKING:
    from pathlib import Path

_NAMED_SECTIONS = ("user_data", "resource_requirements", "slurm_schedulers", "failure_handlers")


class Counts(Struct, frozen=True):
    """How many entries the file has, before parameters multiply them."""

    jobs: int
    files: int
    user_data: int
    resource_requirements: int


class Loaded(Struct, frozen=True):
    """A workflow and what its file deserves to be told about, sorted by position."""

    workflow: model.Workflow
    warnings: tuple[Problem, ...]
    counts: Counts


def load(source: str | Path, *, user: str, stdin: BinaryIO | None = None) -> Loaded:
    """Read, check and expand a workflow file.

    Args:
        source: a path, or ``-`` for standard input.
        user: who runs the workflow; recorded whatever the file says.
        stdin: a binary stream to read instead of the process's own standard input.

    Raises:
        SpecError: the file cannot be used; it holds every mistake that was found.
    """
    text = read_source(source, stdin)
    report = Report(text.name)
    with _collector_paused():
        root = parse_source(text)
        spec = read_spec(root, report)
        workflow = _check_and_build(spec, root, text, user, report)
    if report.errors or workflow is None:
        raise SpecError(report.errors)
    warnings = sorted(report.warnings, key=lambda problem: (problem.line, problem.column))
    counts = Counts(len(spec.jobs), len(spec.files), len(spec.user_data), len(spec.resource_requirements))
    return Loaded(workflow, tuple(warnings), counts)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """No cyclic garbage collection meanwhile: millions of small objects are made here, and hardly any cycle.

    Looking through them again and again would take a third of the time of a large workflow.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_and_build(
    spec: WorkflowSpec, root: Mapping, source: Source, user: str, report: Report
) -> model.Workflow | None:
    """The workflow, or None where the report has errors."""
    expansion = Expansion(spec, report)
    files = expansion.files(spec.files)
    jobs = expansion.jobs(spec.jobs)
    checks.check_unique(files, "file", report)
    checks.check_paths(files, report)
    checks.check_unique(jobs, "job", report)
    _check_sections(spec, report)
    doubts = {section: Doubt(spec, section) for section in _NAMED_SECTIONS}
    checks.check_job_references(spec, jobs, doubts, report)
    checks.check_isolation(spec, report)
    doubts["job"] = Doubt(spec, "jobs", [item for item in expansion.failed if isinstance(item, JobSpec)])
    doubts["file"] = Doubt(spec, "files", [item for item in expansion.failed if isinstance(item, FileSpec)])
    paths = {file.name: file.path for file in files}
    user_data = {item.name: item.data for item in spec.user_data if item.name}
    references = References(jobs, paths, user_data, report, doubts)
    resolved = references.resolve()
    action_jobs = checks.check_actions(spec, references, doubts, report)
    checks.check_cycles(resolved, report)
    warn_not_acted_on(root, report)
    if report.errors:
        return None
    warn_of_no_effect(spec, report)
    warn_of_unused(spec, files, resolved, report)
    return build_workflow(spec, resolved, paths, user_data, action_jobs, user=user, spec_path=source.path)


def _check_sections(spec: WorkflowSpec, report: Report) -> None:
    """The rules inside and between the sections other than jobs and files."""
    checks.check_requirements(spec, report)
    checks.check_unique(spec.user_data, "user_data item", report)
    checks.check_unique(spec.slurm_schedulers, "slurm_schedulers entry", report)
    checks.check_unique(spec.failure_handlers, "failure_handlers entry", report)
    check_rules(spec.failure_handlers, report)
    for section in (*spec.user_data, *spec.slurm_schedulers):
        if not section.states("name"):
            report.warn(section.origin, section.where, "has no name, so nothing can use it")
    if spec.execution_config is not None:
        check_mode(
            spec.execution_config,
            report,
            has_schedulers=bool(spec.slurm_schedulers),
            one_worker_per_node=is_unreadable(spec, "actions")
            or any(
                action.start_one_worker_per_node or "start_one_worker_per_node" in action.broken
                for action in spec.actions
            ),
        )
