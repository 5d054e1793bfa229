"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY, TorcError, jobs, workflow_ids


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


def _complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    output = ctx.params.get("output_dir") or DEFAULT_OUTPUT_DIRECTORY
    try:
        return [str(i) for i in workflow_ids(output) if str(i).startswith(incomplete)]
    except TorcError:  # a shell that completes has no place for a message
        return []


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the workflow's jobs that begin like that."""
    output = ctx.params.get("output_dir") or DEFAULT_OUTPUT_DIRECTORY
    try:
        names = [str(row["name"]) for row in jobs(output, ctx.params.get("workflow_id"))]
    except TorcError:
        return []
    return [name for name in names if name.startswith(incomplete)]


FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="table for people, json for programs.", show_default="table"),
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output-dir", "-o", help="Directory that holds the workflows and their output.", metavar="DIR"
    ),
]
IdArgument = Annotated[
    int, typer.Argument(metavar="ID", help="Id of the workflow.", autocompletion=_complete_id, min=1)
]
OptionalIdArgument = Annotated[
    int | None,
    typer.Argument(
        metavar="[ID]",
        help="Id of the workflow; the newest one if left out.",
        autocompletion=_complete_id,
        min=1,
        show_default=False,
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Go on although input files are missing, or this is not where it was submitted."
    ),
]


def wants_json(ctx: typer.Context, own: Format | None) -> bool:
    """``-f json`` counts before the subcommand, and before ``workflows``, as well as after it; the last one wins."""
    level: Any = ctx
    while own is None and level is not None:
        own, level = level.params.get("format_"), level.parent
    return own == Format.JSON
