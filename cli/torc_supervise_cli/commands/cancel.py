"""``torc-supervise cancel``."""

from __future__ import annotations

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY
from torc_supervise import cancel as carry_out
from torc_supervise_cli.options import FormatOption, IdArgument, OutputOption, wants_json
from torc_supervise_cli.output import command, plural, print_json, say


def cancel(
    ctx: typer.Context,
    workflow_id: IdArgument,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """End what runs of a workflow, gracefully, take its queued allocations back, and record it as canceled.

    From any host: the supervisor is asked over its socket on its own host, else through Slurm and the file system.

    Example: torc-supervise cancel 1
    """
    done = carry_out(output_dir, workflow_id, say)
    if wants_json(ctx, format_):
        print_json(
            {
                "workflow_id": done.workflow_id,
                "asked": done.asked,
                "through": done.through,
                "running": done.running,
                "canceled_slurm_jobs": list(done.allocations),
            }
        )
        return
    if done.allocations:
        print(
            f"canceled {'allocation' if len(done.allocations) == 1 else 'allocations'} {', '.join(done.allocations)}"
        )
    if done.asked:
        running = plural(done.running, "running job")
        print(
            f"asked its supervisor to end {running}; {command(f'status {workflow_id}', output_dir)} shows when"
        )
    else:
        print(f"workflow {workflow_id} is canceled; nothing of it was running")
