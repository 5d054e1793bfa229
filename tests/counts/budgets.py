"""Budgets for counted work: the only place to change when something is meant to take more, or takes less now.

``scripts/counts`` prints what everything takes at present.  A budget is that and a few percent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """``most``: what it may take.  ``traced``: counted by strace."""

    most: float
    what: str
    advice: str
    traced: bool = False


_PROFILE = (
    "profile the launch of many jobs (python -m cProfile) and see what is called more often than before"
)
_IMPORTS = (
    "python -X importtime shows who imports what; import where it is used, what only some commands need"
)
_STRACE = (
    "strace -f of a short run shows them; open() of Python is 8 system calls where os.open and os.read are 3"
)

BUDGETS = {
    "core_calls_per_job": Budget(208, "calls of functions in the pure core", _PROFILE),
    "journal_bytes_per_job": Budget(
        510, "bytes in the journal", "see what the records of a job hold: store/records.py"
    ),
    "modules_of_status": Budget(72, "modules that `status` loads", _IMPORTS),
    "modules_of_run": Budget(305, "modules that `run` loads, helpers included", _IMPORTS),
    "parent_calls_per_job": Budget(35, "system calls of the parent", _STRACE, traced=True),
    "keeper_calls_per_job": Budget(11, "system calls of the keeper, snapshots apart", _STRACE, traced=True),
    "shell_calls_per_job": Budget(
        105,
        "system calls of a job's shell, beyond those of bash -c true",
        "posix/shell.py is its prologue",
        traced=True,
    ),
}
