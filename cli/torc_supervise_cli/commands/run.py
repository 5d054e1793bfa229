"""``torc-supervise run``."""

from __future__ import annotations

from typing import Annotated

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY
from torc_supervise_cli.options import ForceOption, FormatOption, OutputOption, wants_json
from torc_supervise_cli.ranges import LEAST_GB, MOST, MOST_GB
from torc_supervise_cli.running import RunRequest, run_workflow


def run(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="SPEC|ID", help="A workflow file (- for stdin), or a workflow's id.")
    ],
    max_parallel_jobs: Annotated[
        int | None,
        typer.Option(
            "--max-parallel-jobs", help="So many jobs at a time, whatever they ask for.", min=1, max=MOST
        ),
    ] = None,
    num_cpus: Annotated[
        int | None, typer.Option(help="CPUs to hand out; all of this machine by default.", min=1, max=MOST)
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(
            help="GiB of memory to hand out; all of this machine by default.", min=LEAST_GB, max=MOST_GB
        ),
    ] = None,
    num_gpus: Annotated[
        int | None, typer.Option(help="GPUs to hand out; all of this machine by default.", min=0, max=MOST)
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="When this run has to be over: 90s, 10m, 1h30m, 01:30:00, PT1H30M.", metavar="DURATION"
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(hidden=True, help="The slurm_schedulers entry that this allocation was asked for by."),
    ] = None,
    warned_by: Annotated[
        str | None, typer.Option(hidden=True, help="The --signal that this allocation was asked for with.")
    ] = None,
    auto_resubmit: Annotated[
        int, typer.Option(hidden=True, help="How many further allocations may be queued.", min=0, max=MOST)
    ] = 0,
    force: ForceOption = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Run a workflow here, or go on with one.

    Jobs start in dependency order within the machine's resources. On SIGTERM, SIGINT (Ctrl-C), SIGHUP, SIGUSR1,
    SIGUSR2, or when the time limit is near, jobs with supports_termination are asked to save; the others are killed.

    Exit codes: 0 all completed; 1 some failed or were canceled; 2 bad usage or workflow file; 75 stopped early, run it
    again to go on; 70 an error of ours.

    Example: torc-supervise run workflow.yaml --time-limit 2h
    """
    raise typer.Exit(
        run_workflow(
            RunRequest(
                what,
                max_parallel_jobs,
                num_cpus,
                memory_gb,
                num_gpus,
                time_limit,
                scheduler,
                warned_by,
                auto_resubmit,
                force,
                output_dir,
                wants_json(ctx, format_),
            )
        )
    )
