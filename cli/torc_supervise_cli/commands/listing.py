"""``torc-supervise list``, ``jobs`` and ``results``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY, Status
from torc_supervise import jobs as read_jobs
from torc_supervise import results as read_results
from torc_supervise import workflows as read_workflows
from torc_supervise_cli.commands.status import print_jobs, show_status
from torc_supervise_cli.options import FormatOption, OptionalIdArgument, OutputOption, wants_json
from torc_supervise_cli.output import (
    bytes_text,
    counts_text,
    duration_text,
    ended_text,
    print_json,
    print_table,
    say,
)


def status(
    ctx: typer.Context,
    workflow_id: OptionalIdArgument = None,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Show what a workflow is doing: live on its host, else as of its last snapshot.

    Example: torc-supervise status 1 -f json
    """
    raise typer.Exit(show_status(workflow_id, output_dir, as_json=wants_json(ctx, format_)))


def list_workflows(
    ctx: typer.Context, output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY, format_: FormatOption = None
) -> None:
    """List all workflows of an output directory.

    Example: torc-supervise list
    """
    rows = read_workflows(output_dir)
    if wants_json(ctx, format_):
        print_json({"items": rows})
        return
    if not rows:
        say(f"no workflow in {output_dir}")
    print_table(
        ("id", "name", "user", "state", "run", "created", "jobs"),
        [_workflow_cells(row) for row in rows],
        right=("id", "run"),
    )


def jobs(
    ctx: typer.Context,
    workflow_id: OptionalIdArgument = None,
    status: Annotated[
        Status | None, typer.Option("--status", "-s", help="Only jobs with this status.", metavar="STATUS")
    ] = None,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """List the jobs of a workflow.

    Example: torc-supervise jobs 1 --status failed
    """
    rows = [row for row in read_jobs(output_dir, workflow_id) if status is None or row["status"] == status]
    if wants_json(ctx, format_):
        print_json({"items": rows})
        return
    print_jobs(rows, with_pid=True)


def results(
    ctx: typer.Context,
    workflow_id: OptionalIdArgument = None,
    all_runs: Annotated[bool, typer.Option("--all-runs", help="Of all runs, not only the newest.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that did not complete.")] = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """List the results of a workflow's attempts: return code, how each ended, what it used.

    Of its newest run; that has none yet right after reinitialize.

    Example: torc-supervise results 1 --all-runs
    """
    rows = read_results(output_dir, workflow_id, all_runs=all_runs)
    if not rows and not all_runs and read_results(output_dir, workflow_id, all_runs=True):
        say("its newest run has no results yet; --all-runs shows those of earlier runs")
    rows = [row for row in rows if not failed or row["status"] != "completed"]
    if wants_json(ctx, format_):
        print_json({"items": rows})
        return
    print_table(
        ("id", "job", "run", "attempt", "status", "code", "signal", "ended", "time", "cpu", "memory"),
        [_result_cells(row) for row in rows],
        right=("id", "run", "attempt", "code", "time", "cpu", "memory"),
    )


def _workflow_cells(row: dict[str, Any]) -> tuple[object, ...]:
    if "error" in row:
        return (row["workflow_id"], None, None, None, None, None, row["error"])
    created = row["created"][:19].replace("T", " ") if row["created"] else None
    names = ("workflow_id", "name", "user", "state", "run_id")
    return (*(row[name] for name in names), created, counts_text(row["jobs_by_status"]))


def _memory_text(row: dict[str, Any]) -> str | None:
    """The larger of what the sampler and wait4 saw; "< 38 MiB" where all we know is a bound."""
    sampled, largest = row["peak_memory_bytes"], row["max_rss_bytes"]
    if largest is None or not row["max_rss_is_bound"]:
        return bytes_text(max(sampled or 0, largest or 0) or None)
    return bytes_text(sampled) if sampled is not None else f"< {bytes_text(largest)}"


def _result_cells(row: dict[str, Any]) -> tuple[object, ...]:
    spent = [row[name] for name in ("user_cpu_seconds", "system_cpu_seconds") if row[name] is not None]
    return (
        row["job_id"],
        row["job_name"],
        row["run_id"],
        row["attempt_id"],
        row["status"],
        row["return_code"],
        row["signal"],
        ended_text(row),
        duration_text(row["exec_time_seconds"]),
        duration_text(sum(spent) if spent else None),
        _memory_text(row),
    )
