"""``torc-supervise status``.  Imports nothing heavy: it is asked often, and by scripts."""

from __future__ import annotations

from typing import Any

from torc_supervise import look_up
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


def show_status(output: str, workflow_id: int | None, format_: str) -> int:
    """Print the status of a workflow (the newest one without an id); returns the exit code."""
    document = look_up(output, workflow_id, with_jobs=format_ == "json", ask_slurm=True)
    if document.text is not None:
        write_bytes(document.text)
        return 0
    _print_head(document.head)
    print_jobs(document.head["first_jobs"])
    hidden = document.head["jobs_total"] - len(document.head["first_jobs"])
    if hidden:
        print(f"... and {hidden} more: torc-supervise jobs {document.head['workflow_id']}")
    _print_way_on(document.head, output)
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
            where += f", ends at {supervisor['end_time']}"
        print(f"supervisor  {where} ({_whereabouts(supervisor)}), run {head['run_id']}")
    for row in _shown(head.get("allocations") or []):
        print(f"allocation  {_allocation_text(row)}")
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


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Allocations that may still be something, or of which nobody has recorded the end; else the newest."""
    interesting = [row for row in rows if row["state"] in ("queued", "running", "ending", "gone")]
    return interesting[-5:] or rows[-1:]


def _allocation_text(row: dict[str, Any]) -> str:
    """ "12 queued (Resources) since ..., expected to start at ...", "11 running since ..., on n[1-2]"."""
    state, reason = row["state"], row.get("reason")
    text = f"{row['slurm_job_id']} {colour(state)}"
    if state == "queued":
        text += f" ({reason})" if reason else ""
        text += f" since {_time(row.get('submit_time') or row['since'])}"
        if row.get("expected_start"):
            text += f", expected to start at {_time(row['expected_start'])}"
        waits_for = row.get("dependency") or row.get("after")
        return text + (f", waits for {waits_for}" if waits_for else "")
    if state in ("running", "ending"):
        text += f" since {_time(row.get('start_time') or row['since'])}"
        if row.get("end_time"):
            text += f", ends at {_time(row['end_time'])}"
        return text + (f", on {row['nodes']}" if row.get("nodes") else "")
    if state == "gone":
        return f"{text}: Slurm does not know it any more"
    said = f" ({row['slurm_state']})" if row.get("slurm_state") else ""
    return f"{text}{said} since {_time(row['since'])}"


def _time(text: str) -> str:
    """ "2026-01-31T12:00:00.000000Z" -> "2026-01-31 12:00:00 UTC"."""
    return f"{text[:19].replace('T', ' ')} UTC"


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
    if any(row["state"] == "queued" for row in allocations):
        return  # it goes on by itself
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
