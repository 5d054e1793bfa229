"""``torc-supervise run``."""

from __future__ import annotations

import getpass
import math
import os
import sys
from typing import Annotated, Any

import typer

from torc_supervise import (
    DEFAULT_OUTPUT_DIRECTORY,
    EXIT_RESUME,
    RunOptions,
    Started,
    UsageError,
    load,
    parse_time_limit,
    run_existing,
    run_new,
)
from torc_supervise_cli.commands.status import print_jobs
from torc_supervise_cli.options import ForceOption, FormatOption, OutputOption, wants_json
from torc_supervise_cli.output import colour, command, counts_text, print_json, say
from torc_supervise_cli.streams import discard

MOST = 1_000_000  # of anything that is counted: more than any machine has
MOST_GB = 1e9  # an exbibyte nearly; larger numbers of bytes do not go into JSON


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
            help="GiB of memory to hand out; all of this machine by default.", min=0.001, max=MOST_GB
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
    options = RunOptions(
        max_parallel_jobs,
        num_cpus,
        _bytes(memory_gb),
        num_gpus,
        _seconds(time_limit),
        progress=sys.stderr.isatty(),
        scheduler=scheduler,
        warned_by=warned_by,
        auto_resubmit=auto_resubmit,
    )
    if what.isdecimal() and not os.path.exists(what):
        started = run_existing(output_dir, int(what), options, say, force=force)
    else:
        loaded = load(what, user=user())
        for warning in loaded.warnings:
            say(f"warning: {warning.render()}")
        started = run_new(loaded.workflow, output_dir, options, say, force=force)
    try:
        _print_report(started, as_json=wants_json(ctx, format_))
        sys.stdout.flush()
    except (
        OSError
    ) as error:  # nobody reads it any more, or the disk it goes to is full: the run was what it was
        discard(sys.stdout)
        say(f"warning: the report could not be written: {error.strerror}")
    _say_how_to_go_on(started, output_dir)
    raise typer.Exit(started.report.exit_code)


def user() -> str:
    """Who runs this, for people to read."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _bytes(gibibytes: float | None) -> int | None:
    if gibibytes is None:
        return None
    if math.isnan(gibibytes):
        raise UsageError("--memory-gb nan: must be a number")
    return int(gibibytes * (1 << 30))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_time_limit(text)
    except ValueError as error:
        raise UsageError(f"--time-limit {text}: {error}") from None
    if seconds <= 0:
        raise UsageError(f"--time-limit {text}: must be more than nothing")
    return seconds


def _print_report(started: Started, *, as_json: bool) -> None:
    report = started.report
    if as_json:
        print_json(_document(started))
        return
    print_jobs(started.first_jobs)
    counts = {status.value: count for status, count in report.jobs_by_status.items()}
    print(f"workflow {report.workflow_id} {colour(report.state.value)}: {counts_text(counts)}")


def _say_how_to_go_on(started: Started, output: str) -> None:
    report = started.report
    if report.unconfirmed:
        say(f"{report.unconfirmed} records were not confirmed to be on disk when it had to leave")
    if report.exit_code == EXIT_RESUME:
        how = "run" if report.slurm_job_id is None else "submit"
        say(f"stopped early with work left; to go on: {command(f'{how} {report.workflow_id}', output)}")
    elif report.state.value == "failed":
        workflow = report.workflow_id
        say(
            f"look at {command(f'logs {workflow}', output)}; to try again: "
            f"{command(f'reset-status {workflow} --failed-only', output)}, then {command(f'run {workflow}', output)}"
        )


def _document(started: Started) -> dict[str, Any]:
    report = started.report
    return {
        "workflow_id": report.workflow_id,
        "run_id": report.run_id,
        "state": report.state.value,
        "exit_code": report.exit_code,
        "created": started.created,
        "reset": started.reset,
        "jobs_by_status": {status.value: count for status, count in report.jobs_by_status.items()},
        "output_dir": started.output,
    }
