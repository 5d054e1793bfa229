"""``torc-supervise submit``."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from torc_supervise import (
    DEFAULT_OUTPUT_DIRECTORY,
    SubmitOptions,
    Submitted,
    dry_run,
    load,
    submit_existing,
    submit_new,
)
from torc_supervise_cli.options import ForceOption, FormatOption, OutputOption, wants_json
from torc_supervise_cli.output import command, plural, print_json, say
from torc_supervise_cli.ranges import MOST
from torc_supervise_cli.running import user

MOST_ALLOCATIONS = 1000


def submit(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="SPEC|ID", help="A workflow file (- for stdin), or a workflow's id.")
    ],
    scheduler: Annotated[
        str | None,
        typer.Option(help="The slurm_schedulers entry to use, whatever the actions say.", metavar="NAME"),
    ] = None,
    auto_resubmit: Annotated[
        int,
        typer.Option(
            help="How many further allocations it may queue by itself, if time runs out with work left.",
            metavar="N",
            min=0,
            max=MOST_ALLOCATIONS,
        ),
    ] = 0,
    max_parallel_jobs: Annotated[
        int | None,
        typer.Option(
            "--max-parallel-jobs", help="So many jobs at a time, whatever they ask for.", min=1, max=MOST
        ),
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Print the batch script; submit nothing, write nothing.")
    ] = False,
    force: ForceOption = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Queue a Slurm allocation that runs a workflow, or goes on with one.

    The allocation is asked for as a slurm_schedulers entry of the file says: the one that its on_workflow_start actions
    name, or the only one. Jobs that were terminated or interrupted run again. The batch script is kept.

    Example: torc-supervise submit workflow.yaml --auto-resubmit 5
    """
    options = SubmitOptions(scheduler, auto_resubmit, max_parallel_jobs, force)
    as_json = wants_json(ctx, format_)
    workflow_id = int(what) if what.isdecimal() and not os.path.exists(what) else None
    workflow = None
    if workflow_id is None:
        loaded = load(what, user=user())
        for warning in loaded.warnings:
            say(f"warning: {warning.render()}")
        workflow = loaded.workflow
    if dry:
        source = workflow if workflow is not None else workflow_id
        assert source is not None
        scripts = dry_run(source, output_dir, options, say)
        if as_json:
            items = [{"scheduler": s.scheduler, "script": s.path, "text": s.text} for s in scripts]
            print_json({"workflow_id": workflow_id, "dry_run": True, "scripts": items})
        elif not scripts:
            print(f"nothing of workflow {workflow_id} is left to run")
        for script in scripts if not as_json else ():
            say(f"would write and submit {script.path}:")
            sys.stderr.flush()
            print(script.text, end="" if script is scripts[-1] else "\n")
        return
    if workflow is not None:
        done = submit_new(workflow, output_dir, options, say)
    else:
        assert workflow_id is not None
        done = submit_existing(output_dir, workflow_id, options, say)
    if as_json:
        print_json(_document(done))
    else:
        _print_report(done, output_dir)


def _document(done: Submitted) -> dict[str, Any]:
    return {
        "workflow_id": done.workflow_id,
        "created": done.created,
        "submitted": [
            {
                "slurm_job_id": one.slurm_job_id,
                "scheduler": one.scheduler,
                "script": one.script,
                "output": one.output,
                "name": one.name,
                "after": one.after,
                "adopted": one.adopted,
            }
            for one in done.allocations
        ],
        "reset": done.reset,
    }


def _print_report(done: Submitted, output: str) -> None:
    if not done.allocations:
        print(f"nothing of workflow {done.workflow_id} is left to run; nothing was submitted")
        return
    for one in done.allocations:
        after = f", after {one.after}" if one.after else ""
        print(f"Slurm job {one.slurm_job_id} ({one.scheduler}{after}): {one.script}")
    jobs = plural(len(done.allocations), "allocation")
    print(
        f"submitted workflow {done.workflow_id} '{done.name}' as {jobs}; "
        f"{command(f'status {done.workflow_id}', output)} shows how it goes"
    )
