"""The typer application: which commands there are, and under which names."""

from __future__ import annotations

from typing import Annotated

import typer

from torc_supervise import __version__
from torc_supervise_cli.commands import (
    cancel,
    listing,
    logs,
    reinitialize,
    repair,
    run,
    submit,
    sync_status,
    validate,
)
from torc_supervise_cli.options import FormatOption

app = typer.Typer(
    name="torc-supervise",
    help="Run a workflow of shell jobs inside an HPC allocation, and end it gracefully before wall time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
workflows = typer.Typer(help="The same commands under the names that Torc gives them.", no_args_is_help=True)


def _unfolded(text: str) -> str:
    """One line a paragraph: typer keeps the line ends of all but the first, whatever the width of the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


_COMMANDS = (
    ("run", run.run),
    ("submit", submit.submit),
    ("status", listing.status),
    ("list", listing.list_workflows),
    ("jobs", listing.jobs),
    ("results", listing.results),
    ("logs", logs.logs),
    ("reinitialize", reinitialize.reinitialize),
    ("reset-status", reinitialize.reset),
    ("cancel", cancel.cancel),
    ("repair", repair.repair),
    ("sync-status", sync_status.sync),
    ("validate", validate.validate),
    ("schema", validate.schema),
)
for _name, _command in _COMMANDS:
    _help = _unfolded(_command.__doc__ or "")
    app.command(_name, help=_help)(_command)
    workflows.command(_name, help=_help)(_command)
app.add_typer(workflows, name="workflows")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"torc-supervise {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    format_: FormatOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that stand before the subcommand; the format may stand behind it as well."""


@workflows.callback()
def _workflows(format_: FormatOption = None) -> None:
    """The same commands under the names that Torc gives them."""


def run_app(arguments: list[str]) -> int:
    """Run one command line; returns its exit code, with usage errors explained on stderr."""
    try:
        app(args=arguments, prog_name="torc-supervise")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    return 0
