"""``torc-supervise sync-status``."""

from __future__ import annotations

from typing import Any

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY, Synced, sync_status
from torc_supervise_cli.commands.reinitialize import DryRunOption
from torc_supervise_cli.options import FormatOption, IdArgument, OutputOption, wants_json
from torc_supervise_cli.output import command, plural, print_json, print_table, say


def sync(
    ctx: typer.Context,
    workflow_id: IdArgument,
    dry_run: DryRunOption = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Record what became of allocations that have vanished: their running jobs are lost, and ready again afterwards.

    Example: torc-supervise sync-status 1
    """
    done = sync_status(output_dir, workflow_id, say, dry_run=dry_run)
    if wants_json(ctx, format_):
        print_json(_document(done, dry_run=dry_run))
        return
    would = "would be recorded" if dry_run else "recorded"
    for slurm_job_id, what in done.over.items():
        print(f"allocation {slurm_job_id} {would} as over; Slurm says: {what}")
    if done.ended_run is not None:
        print(f"run {done.ended_run}, whose supervisor is gone, {'would be' if dry_run else 'was'} ended")
    if done.lost:
        print(f"{plural(len(done.lost), 'job')} {would} as {_ends(done)}:")
        rows = [(job.job_id, job.name, job.ended, job.reason) for job in done.lost]
        print_table(("id", "name", "ended", "why"), rows, right=("id",))
    for what, slurm_job_ids in (("queued", done.queued), ("running", done.running)):
        if slurm_job_ids:
            print(f"still {what}: {', '.join(slurm_job_ids)}")
    if done.in_use is not None:
        print(f"the workflow belongs to {done.in_use}; nothing was changed")
    elif not done.over and done.ended_run is None:
        print("nothing has vanished")
    elif done.lost and not dry_run:
        print(f"to run them again: {command(f'reinitialize {workflow_id}', output_dir)}")


def _ends(done: Synced) -> str:
    """A job of a supervisor that is gone may still have run here until now: its end was seen then."""
    return "lost" if all(job.ended == "lost" for job in done.lost) else "terminated"


def _document(done: Synced, *, dry_run: bool) -> dict[str, Any]:
    """Torc's fields, and ours.  ``failed_job_details`` is left out where there are none, as there."""
    in_vanished = [job for job in done.lost if job.slurm_job_id is not None]
    document: dict[str, Any] = {
        "workflow_id": done.workflow_id,
        "dry_run": dry_run,
        "slurm_jobs_failed": len(in_vanished),
        "pending_allocations_cleaned": len(done.over),
        "running_jobs_failed": len(done.lost) - len(in_vanished),
        "allocations_over": [{"slurm_job_id": i, "slurm_says": what} for i, what in done.over.items()],
        "allocations_queued": list(done.queued),
        "allocations_running": list(done.running),
        "in_use": done.in_use,
        "ended_run": done.ended_run,
    }
    if done.lost:
        document["failed_job_details"] = [
            {
                "job_id": j.job_id,
                "job_name": j.name,
                "reason": j.reason,
                "slurm_job_id": j.slurm_job_id,
                "ended": j.ended,
            }
            for j in done.lost
        ]
    return document
