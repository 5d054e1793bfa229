"""What ``torc-supervise run`` does.  Knows nothing of typer: an allocation must not wait for its import."""

from __future__ import annotations

import getpass
import math
import os
import sys
from typing import Any, NamedTuple

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
from torc_supervise_cli.output import colour, command, counts_text, print_json, say
from torc_supervise_cli.streams import discard


class RunRequest(NamedTuple):
    """A command line of ``run``: see the options of :func:`torc_supervise_cli.commands.run.run`."""

    what: str
    max_parallel_jobs: int | None = None
    num_cpus: int | None = None
    memory_gb: float | None = None
    num_gpus: int | None = None
    time_limit: str | None = None
    scheduler: str | None = None
    warned_by: str | None = None
    auto_resubmit: int = 0
    force: bool = False
    output_dir: str = DEFAULT_OUTPUT_DIRECTORY
    as_json: bool = False

    def again(self, workflow_id: int) -> str:
        """How to go on here: with the capacity that this run was given, without which its jobs may not fit."""
        given = {
            "--max-parallel-jobs": self.max_parallel_jobs,
            "--num-cpus": self.num_cpus,
            "--memory-gb": self.memory_gb,
            "--num-gpus": self.num_gpus,
        }
        options = [
            f"{name} {str(value).removesuffix('.0')}" for name, value in given.items() if value is not None
        ]
        return " ".join(["run", str(workflow_id), *options])


def run_workflow(request: RunRequest) -> int:
    """Run a workflow here, or go on with one, and report; returns the exit code.

    Raises:
        TorcError: nothing was started, and why.
    """
    options = RunOptions(
        request.max_parallel_jobs,
        request.num_cpus,
        _bytes(request.memory_gb),
        request.num_gpus,
        _seconds(request.time_limit),
        progress=sys.stderr.isatty(),
        scheduler=request.scheduler,
        warned_by=request.warned_by,
        auto_resubmit=request.auto_resubmit,
    )
    what, output_dir, force = request.what, request.output_dir, request.force
    if what.isdecimal() and not os.path.exists(what):
        started = run_existing(output_dir, int(what), options, say, force=force)
    else:
        loaded = load(what, user=user())
        for warning in loaded.warnings:
            say(f"warning: {warning.render()}")
        started = run_new(loaded.workflow, output_dir, options, say, force=force)
    try:
        _print_report(started, as_json=request.as_json)
        sys.stdout.flush()
    except (
        OSError
    ) as error:  # nobody reads it any more, or the disk it goes to is full: the run was what it was
        discard(sys.stdout)
        say(f"warning: the report could not be written: {error.strerror}")
    _say_how_to_go_on(started, request)
    return started.report.exit_code


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


def _say_how_to_go_on(started: Started, request: RunRequest) -> None:
    report, output = started.report, request.output_dir
    again = request.again(report.workflow_id)
    if report.unconfirmed:
        say(f"{report.unconfirmed} records were not confirmed to be on disk when it had to leave")
    if report.exit_code == EXIT_RESUME:
        how = again if report.slurm_job_id is None else f"submit {report.workflow_id}"
        say(f"stopped early with work left; to go on: {command(how, output)}")
    elif report.state.value == "failed":
        workflow = report.workflow_id
        say(
            f"look at {command(f'logs {workflow}', output)}; to try again: "
            f"{command(f'reset-status {workflow} --failed-only', output)}, then {command(again, output)}"
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
