"""What sinfo says about partitions."""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.slurm.commands import run
from torc_supervise.workflow.walltime import parse_walltime

QUICKLY = 5.0
"""Seconds for sinfo to answer: it is asked for advice only, and a submission must not wait for that."""


class Partition(Struct, frozen=True):
    """``limit``: longest wall time in seconds, None if there is none."""

    name: str
    limit: float | None
    is_default: bool


def partitions() -> dict[str, Partition]:
    """All partitions that this user can see, by name.

    Raises:
        SlurmError: sinfo is missing or did not answer at once.
    """
    text = run(["sinfo", "--noheader", "--all", "--format=%P|%l"], timeout=QUICKLY)
    found = {}
    for line in text.splitlines():
        name, _, limit = line.partition("|")
        is_default = name.endswith("*")
        name = name.strip().removesuffix("*")
        found[name] = Partition(name, _seconds(limit), is_default)
    return found


def _seconds(text: str) -> float | None:
    try:
        return parse_walltime(text)
    except ValueError:
        return None  # "infinite", "n/a"
