"""The short way around typer: it understands what typer understands, to the same request, or leaves it to typer."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY
from torc_supervise_cli import app as application
from torc_supervise_cli import shortcut
from torc_supervise_cli.commands import listing
from torc_supervise_cli.commands import run as run_command
from torc_supervise_cli.running import RunRequest

COMMANDS = ("run", "status")
OF_TYPER_ALONE = {"--help", "-h", "--version", "--install-completion", "--show-completion"}


@cache
def typer_command() -> Any:
    """The whole command line, as typer makes it from the functions."""
    return typer.main.get_command(application.app)


def declared(command: str) -> list[Any]:
    parameters: list[Any] = typer_command().commands[command].params
    return parameters


def options_of(command: str) -> dict[str, Any]:
    """Every spelling -> parameter."""
    found = {name: p for p in declared(command) if p.param_type_name == "option" for name in p.opts}
    return {name: p for name, p in found.items() if name not in OF_TYPER_ALONE}


def by_typer(arguments: list[str]) -> tuple[str, dict[str, Any]] | None:
    """What typer has the command do; None where it refuses."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def run(request: RunRequest) -> int:
        seen.append(("run", request._asdict()))
        return 0

    def status(workflow_id: int | None, output_dir: str, *, as_json: bool) -> int:
        seen.append(("status", {"workflow_id": workflow_id, "output_dir": output_dir, "as_json": as_json}))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_command, "run_workflow", run)
        patch.setattr(listing, "show_status", status)
        with contextlib.suppress(SystemExit):
            typer_command().main(args=arguments, prog_name="torc-supervise")
    return seen[0] if seen else None


def by_the_short_way(arguments: list[str]) -> tuple[str, dict[str, Any]] | None:
    found = shortcut.parse(arguments)
    match found:
        case "run", values:
            return "run", RunRequest(**values)._asdict()
        case "status", values:
            usual = {"workflow_id": None, "output_dir": DEFAULT_OUTPUT_DIRECTORY, "as_json": False}
            return "status", {**usual, **values}
    return None


@pytest.mark.parametrize("command", COMMANDS)
def test_both_know_the_same_options(command: str) -> None:
    known = options_of(command)
    assert {name for name, p in known.items() if not p.is_flag} == set(shortcut.OPTIONS[command])
    assert {name for name, p in known.items() if p.is_flag} == set(shortcut.FLAGS[command])


TEXTS = st.sampled_from(["2h", "x", "a b", "dir/x", "gpu", "TERM@60", "json", "run", "status", "workflows"])
ODD = st.sampled_from(["", "-", "--", "-x", "-1", "x=y", "=1", "nan", "inf", " 5", "1_0", "\u0665", "1e400"])
NUMBERS = st.one_of(
    st.integers(-1, 3).map(str), st.integers(999_999, 1_000_001).map(str), st.floats(0, 2e9).map(str)
)
SPELLINGS = sorted({name for command in shortcut.OPTIONS for name in shortcut.OPTIONS[command]})


@st.composite
def an_option(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(SPELLINGS))
    value = draw(st.sampled_from(["json", "table"]) | NUMBERS | TEXTS | ODD)
    return [f"{name}={value}"] if draw(st.booleans()) else [name, value]


WORDS = st.one_of(
    an_option(),
    st.sampled_from(
        ["run", "status", "workflows", "w.yaml", "1", "0", "-", "--", "-h", "--force", "--forc"]
    ).map(lambda word: [word]),
    NUMBERS.map(lambda word: [word]),
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=2), st.sampled_from(COMMANDS), st.lists(WORDS, max_size=4))
def test_what_the_short_way_understands_typer_understands_the_same(
    before: list[list[str]], command: str, after: list[list[str]]
) -> None:
    arguments = [word for part in (*before, [command], *after) for word in part]
    understood = by_the_short_way(arguments)
    if understood is not None:
        assert understood == by_typer(arguments)


@pytest.mark.parametrize("form", ["{0} {1}", "{0}={1}"])
@pytest.mark.parametrize(
    ("command", "name"),
    [(command, name) for command in COMMANDS for name in sorted(shortcut.OPTIONS[command])],
)
def test_every_option_is_understood_by_the_short_way(command: str, name: str, form: str) -> None:
    if not name.startswith("--"):
        form = "{0} {1}"  # -o=DIR means a directory called "=DIR"
    option = form.format(name, "json" if name in ("-f", "--format") else "2").split(" ")
    for arguments in (["1", *option], [*option, "1"]):
        understood = by_the_short_way([command, *arguments])
        assert understood is not None, arguments
        assert understood == by_typer([command, *arguments])


@pytest.mark.parametrize(
    "line",
    [
        "run w.yaml --force",
        "run --force 1",
        "-f json run 1",
        "workflows run 1 -f json",
        "-f json workflows status",
    ],
)
def test_plain_lines_take_the_short_way(line: str) -> None:
    understood = by_the_short_way(line.split())
    assert understood is not None
    assert understood == by_typer(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "run",
        "run --help",
        "run w.yaml --forc",
        "run a b",
        "status 0",
        "run 1 --num-cpus 0",
        "run -o",
        "list",
    ],
)
def test_doubts_are_left_to_typer(line: str) -> None:
    assert shortcut.parse(line.split()) is None
