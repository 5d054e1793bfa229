"""The short way of ``status`` and ``run``: plain command lines are read without typer, whose import takes 0.3 s.

Whatever is not understood here is left to typer, which knows everything and explains what is wrong.  The tables say no
more than what typer's own declarations say; tests/system/test_shortcut.py compares them, and what both ways come to.
"""

from __future__ import annotations

from collections.abc import Callable

from torc_supervise_cli.ranges import LEAST_GB, MOST, MOST_GB

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any

    Reader = Callable[[str], Any]
    """What a word means; None where that is for typer to say."""


def _text(word: str) -> str:
    return word


def _json(word: str) -> bool | None:
    return {"json": True, "table": False}.get(word)


def _whole(least: int, most: int) -> Reader:
    def read(word: str) -> int | None:
        plain = word.isascii() and word.isdecimal() and len(word) < 19
        return int(word) if plain and least <= int(word) <= most else None

    return read


def _number(least: float, most: float) -> Reader:
    def read(word: str) -> float | None:
        try:
            value = float(word)
        except ValueError:
            return None
        return value if least <= value <= most else None  # nan is not

    return read


_COMMON: dict[str, tuple[str, Reader]] = {"-f": ("as_json", _json), "--format": ("as_json", _json)}
_OUTPUT: dict[str, tuple[str, Reader]] = {
    "-o": ("output_dir", _text),
    "--output-dir": ("output_dir", _text),
}
OPTIONS: dict[str, dict[str, tuple[str, Reader]]] = {
    "status": {**_COMMON, **_OUTPUT},
    "run": {
        **_COMMON,
        **_OUTPUT,
        "--max-parallel-jobs": ("max_parallel_jobs", _whole(1, MOST)),
        "--num-cpus": ("num_cpus", _whole(1, MOST)),
        "--memory-gb": ("memory_gb", _number(LEAST_GB, MOST_GB)),
        "--num-gpus": ("num_gpus", _whole(0, MOST)),
        "--time-limit": ("time_limit", _text),
        "--scheduler": ("scheduler", _text),
        "--warned-by": ("warned_by", _text),
        "--auto-resubmit": ("auto_resubmit", _whole(0, MOST)),
    },
}
FLAGS: dict[str, dict[str, str]] = {"status": {}, "run": {"--force": "force"}}
_ARGUMENT: dict[str, tuple[str, Reader]] = {
    "status": ("workflow_id", _whole(1, 10**18)),
    "run": ("what", _text),
}
_NEEDS_ARGUMENT = {"run"}


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The command and what is given of its request; None for whatever is to be left to typer."""
    command, argument = "", ""
    below_workflows = False
    given: dict[str, Any] = {}
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = (OPTIONS[command] if command else _COMMON).get(name)
        if option is not None:
            field, read = option
            value = value if equals else next(rest, "")
            meant = None if not value or value.startswith("-") else read(value)
            if meant is None:
                return None
            given[field] = meant
        elif command and word in FLAGS[command]:
            given[FLAGS[command][word]] = True
        elif not command and word == "workflows" and not below_workflows:
            below_workflows = True
        elif not command and word in OPTIONS:
            command = word
        elif command and word and not word.startswith("-") and not argument:
            argument = word
        else:
            return None
    if not command or (command in _NEEDS_ARGUMENT and not argument):
        return None
    if argument:
        field, read = _ARGUMENT[command]
        given[field] = read(argument)
        if given[field] is None:
            return None
    return command, given
