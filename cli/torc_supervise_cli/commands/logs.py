"""``torc-supervise logs``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from torc_supervise import (
    DEFAULT_OUTPUT_DIRECTORY,
    LogFile,
    Logs,
    batch_files,
    content,
    find,
    follow,
    log_files,
)
from torc_supervise_cli.options import (
    FormatOption,
    OptionalIdArgument,
    OutputOption,
    complete_job,
    wants_json,
)
from torc_supervise_cli.output import bold, command, print_json, say, write_bytes


def logs(
    ctx: typer.Context,
    workflow_id: OptionalIdArgument = None,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="Name or id of a job; all jobs if left out.",
            autocompletion=complete_job,
            show_default=False,
        ),
    ] = None,
    follow_: Annotated[
        bool, typer.Option("--follow", "-F", help="Go on printing what is added, until the jobs are over.")
    ] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only stdout.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only stderr.")] = False,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="What the batch script of the newest allocation printed; JOB is then a Slurm job id.",
        ),
    ] = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Print what jobs wrote to stdout and stderr in their latest attempt.

    Example: torc-supervise logs 1 train_model --follow; torc-supervise logs 1 --batch
    """
    streams = [name for name, chosen in (("stdout", stdout), ("stderr", stderr)) if chosen] or [
        "stdout",
        "stderr",
    ]
    workflow_id = find(output_dir, workflow_id).workflow_id  # the same one at each look
    read = batch_files if batch else log_files
    found = read(output_dir, workflow_id, job, streams)
    files = found.files
    if wants_json(ctx, format_):
        print_json({"items": [_item(file) for file in files]})
        return
    if follow_:
        several = (job is None and not batch) or len(files) > 1
        _follow(lambda: read(output_dir, workflow_id, job, streams), with_heading=several)
        return
    if found.batch is not None:
        say(
            f"of the batch script of allocation {found.batch}: {command(f'logs {workflow_id} --batch', output_dir)}"
        )
    if not files:
        say("nothing was written yet")
        return
    written = [file for file in files if next(content(file), b"")]
    for file in written:
        _print_file(file, with_heading=len(written) > 1)
    if not written:
        say("nothing was written")


def _print_file(file: LogFile, *, with_heading: bool) -> None:
    if with_heading:
        print(bold(f"==> {file.name}: {file.stream} ({file.path}) <=="))
    last = b""
    for last in content(file):
        write_bytes(last)
    if with_heading and not last.endswith(b"\n"):
        print()


def _follow(look: Callable[[], Logs], *, with_heading: bool) -> None:
    current: LogFile | None = None
    for file, chunk in follow(look):
        if with_heading and file != current:
            print(bold(f"==> {file.name}: {file.stream} <=="))
            current = file
        write_bytes(chunk)
    sys.stdout.flush()


def _item(file: LogFile) -> dict[str, object]:
    text = b"".join(content(file)).decode(errors="replace")
    return {"job_id": file.job_id, "name": file.name, "stream": file.stream, "path": file.path, "text": text}
