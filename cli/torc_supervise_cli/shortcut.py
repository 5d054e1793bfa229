"""The short way of ``status``: its command line is simple enough to be read without typer.

Whatever is not understood here is left to typer, which knows everything and explains what is wrong.
"""

from __future__ import annotations

from typing import NamedTuple

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY


class StatusRequest(NamedTuple):
    output: str
    workflow_id: int | None
    format: str


def parse_status(arguments: list[str]) -> StatusRequest | None:
    """``[-f F] [workflows] status [ID] [-f F] [-o DIR]`` in any order of options; None for anything else."""
    output, workflow_id, format_ = DEFAULT_OUTPUT_DIRECTORY, None, "table"
    seen_command = False
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("-f", "--format", "-o", "--output-dir"):
            value = value if equals else next(rest, "")
            if name in ("-o", "--output-dir"):
                if not (value and seen_command):
                    return None
                output = value
            elif value in ("table", "json"):
                format_ = value
            else:
                return None
        elif word == "workflows" and not seen_command:
            continue
        elif word == "status" and not seen_command:
            seen_command = True
        elif word.isdecimal() and seen_command and workflow_id is None:
            workflow_id = int(word)
        else:
            return None
    return StatusRequest(output, workflow_id, format_) if seen_command else None
