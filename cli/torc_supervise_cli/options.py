"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY, workflow_ids


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


def _complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    output = ctx.params.get("output_dir") or DEFAULT_OUTPUT_DIRECTORY
    return [str(i) for i in workflow_ids(output) if str(i).startswith(incomplete)]


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
    bool, typer.Option("--force", help="Go on although required input files are missing.")
]


def wants_json(ctx: typer.Context, own: Format | None) -> bool:
    """``-f json`` counts before the subcommand as well as after it; after it wins."""
    return (own or ctx.find_root().params.get("format_")) == Format.JSON
