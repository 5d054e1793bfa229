"""``torc-supervise status``.  Imports nothing heavy: it is asked often, and by scripts."""

from __future__ import annotations

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY, look_up
from torc_supervise_cli.allocations import allocation_text, goes_on, ran_nothing, shown, time_text
from torc_supervise_cli.output import (
    bold,
    colour,
    command,
    counts_text,
    duration_text,
    ended_text,
    plural,
    print_table,
    write_bytes,
)

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any


def show_status(
    workflow_id: int | None = None, output_dir: str = DEFAULT_OUTPUT_DIRECTORY, *, as_json: bool = False
) -> int:
    """Print the status of a workflow (the newest one without an id); returns the exit code."""
    document = look_up(output_dir, workflow_id, with_jobs=as_json, ask_slurm=True)
    if document.text is not None:
        write_bytes(document.text)
        return 0
    _print_head(document.head)
    print_jobs(document.head["first_jobs"])
    hidden = document.head["jobs_total"] - len(document.head["first_jobs"])
    if hidden:
        print(f"... and {hidden} more: torc-supervise jobs {document.head['workflow_id']}")
    _print_way_on(document.head, output_dir)
    return 0


def _print_head(head: dict[str, Any]) -> None:
    print(f"workflow    {bold(str(head['workflow_id']))}  {bold(head['name'])}  {colour(head['state'])}")
    print(f"jobs        {head['jobs_total']}: {counts_text(head['jobs_by_status'])}")
    supervisor = head["supervisor"]
    if supervisor is None:
        print("supervisor  none yet")
    else:
        where = f"pid {supervisor['pid']} on {supervisor['host']}"
        if supervisor["slurm_job_id"]:
            where += f", Slurm job {supervisor['slurm_job_id']}"
        if supervisor["alive"] and supervisor["end_time"]:
            where += f", ends at {time_text(supervisor['end_time'])}"
        print(f"supervisor  {where} ({_whereabouts(supervisor)}), run {head['run_id']}")
    for row in shown(head.get("allocations") or []):
        print(f"allocation  {allocation_text(row, supervisor)}")
    if head.get("slurm") not in (None, "answered"):
        print(f"            Slurm did not answer ({head['slurm']}): as of the last record")
    source = head["source"]
    age = "now" if source == "live" else f"{duration_text(head['age_seconds'])} ago"
    print(f"as of       {age} ({source})")
    for warning in head["warnings"][-5:]:
        print(f"warning     {warning['message']}")
    print()


def _whereabouts(supervisor: dict[str, Any]) -> str:
    if supervisor["alive"]:
        return "running"
    if supervisor["exit_code"] is not None:
        return f"left with exit code {supervisor['exit_code']}"
    return "was killed; its jobs were ended" if supervisor.get("killed") else "gone"


def print_jobs(rows: list[dict[str, Any]], *, with_pid: bool = False) -> None:
    """The table of jobs; the pid is that of a running job's shell."""
    headings = ["id", "name", "status", "code", "signal", "ended", "time"]
    cells = [
        [
            row["job_id"],
            row["name"],
            row["status"],
            row["return_code"],
            row["signal"],
            ended_text(row),
            duration_text(row["exec_time_seconds"]),
        ]
        for row in rows
    ]
    if with_pid:
        headings.append("pid")
        for line, row in zip(cells, rows, strict=True):
            line.append(row["pid"])
    print_table(headings, cells, right=("id", "code", "time", "pid"))


def way_on(allocations: list[dict[str, Any]]) -> str:
    """Which command goes on with a workflow: the one that was used before."""
    return "submit" if any(row["why"] for row in allocations) else "run"


def _print_way_on(head: dict[str, Any], output: str) -> None:
    supervisor = head["supervisor"]
    allocations = head.get("allocations") or []
    if any(goes_on(row) for row in allocations):
        return  # by itself
    if head["state"] in ("terminated", "ready") and allocations and ran_nothing(allocations[-1], supervisor):
        printed = command(f"logs {head['workflow_id']} --batch", output)
        print(f"\nallocation {allocations[-1]['slurm_job_id']} did not run it; what it printed:   {printed}")
    if allocations or (supervisor is not None and not supervisor["alive"]):
        running = head["jobs_by_status"]["running"]
        if supervisor is not None and running and not supervisor["alive"]:
            left = plural(running, "job")
            what = "its allocation" if supervisor.get("slurm_state") else "its supervisor"
            record = command(f"sync-status {head['workflow_id']}", output)
            print(f"\n{what} is gone and left {left} without a result; {record} records what was lost")
        if head["state"] in ("terminated", "ready"):
            again = command(f"{way_on(allocations)} {head['workflow_id']}", output)
            print(f"\nto go on:   {again}")
        elif head["state"] == "failed":
            reset = command(f"reset-status {head['workflow_id']} --failed-only", output)
            print(f"\nto try the failed jobs again:   {reset}")
