"""``torc-supervise validate`` and ``schema``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc_supervise import Loaded, Plan, SpecError, advise, json_schema, load, plan
from torc_supervise_cli.options import Format, FormatOption, wants_json
from torc_supervise_cli.output import bytes_text, plural, print_json, print_table, say
from torc_supervise_cli.running import user

NAMES_SHOWN = 4


def validate(
    ctx: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A workflow file, or - for stdin.")],
    format_: FormatOption = None,
) -> None:
    """Check a workflow file and show what it would run. Starts nothing, writes nothing.

    Example: torc-supervise validate workflow.yaml
    """
    as_json = wants_json(ctx, format_)
    try:
        loaded = load(spec, user=user())
    except SpecError as error:
        if not as_json:
            raise
        print_json(
            {"valid": False, "errors": [problem.render() for problem in error.problems], "warnings": []}
        )
        raise typer.Exit(error.exit_code) from None
    planned = plan(loaded.workflow)
    if as_json:
        print_json(_document(loaded, planned))
        return
    for text in _warnings(loaded):
        say(f"warning: {text}")
    _print_plan(loaded, planned)


def schema(
    format_: Annotated[
        Format | None, typer.Option("--format", "-f", help="Always json.", hidden=True)
    ] = None,
) -> None:
    """Print a JSON Schema of workflow files, for editors.

    Example: torc-supervise schema > torc-workflow.schema.json
    """
    print_json(json_schema())


def _document(loaded: Loaded, planned: Plan) -> dict[str, Any]:
    workflow = loaded.workflow
    return {
        "valid": True,
        "errors": [],
        "warnings": _warnings(loaded),
        "summary": {
            "workflow_name": workflow.name,
            "workflow_description": workflow.description,
            "job_count": planned.jobs,
            "job_count_before_expansion": loaded.counts.jobs,
            "file_count": planned.files,
            "file_count_before_expansion": loaded.counts.files,
            "user_data_count": planned.user_data,
            "dependency_count": planned.dependencies,
            "supports_termination_count": planned.supports_termination,
            "job_names": [job.name for job in workflow.jobs],
        },
        "stages": [
            {
                "stage": stage.number,
                "jobs": [job.name for job in stage.jobs],
                "num_cpus": stage.num_cpus,
                "memory_bytes": stage.memory_bytes,
                "memory_not_stated": stage.memory_not_stated,
                "num_gpus": stage.num_gpus,
            }
            for stage in planned.stages
        ],
    }


def _warnings(loaded: Loaded) -> list[str]:
    """Also what ``submit`` would say: such a file is valid, and ``run`` takes it."""
    advice = [
        f"submit would refuse it: {finding.message}" if finding.is_error else finding.message
        for finding in advise(loaded.workflow)
    ]
    return [*(warning.render() for warning in loaded.warnings), *advice]


def _print_plan(loaded: Loaded, planned: Plan) -> None:
    before = loaded.counts.jobs
    waits = "1 dependency" if planned.dependencies == 1 else f"{planned.dependencies} dependencies"
    expanded = f" (from {before} in the file)" if before != planned.jobs else ""
    print(
        f"'{loaded.workflow.name}' is valid: {plural(planned.jobs, 'job')}{expanded}, "
        f"{waits}, {planned.supports_termination} with supports_termination"
    )
    rows = []
    for stage in planned.stages:
        more = len(stage.jobs) - NAMES_SHOWN
        names = ", ".join(job.name for job in stage.jobs[:NAMES_SHOWN]) + (
            f", ... {more} more" if more > 0 else ""
        )
        rows.append(
            (
                stage.number,
                len(stage.jobs),
                stage.num_cpus,
                bytes_text(stage.memory_bytes or None),
                stage.num_gpus,
                names,
            )
        )
    print_table(
        ("stage", "jobs", "cpus", "memory", "gpus", "names"),
        rows,
        right=("stage", "jobs", "cpus", "memory", "gpus"),
    )
