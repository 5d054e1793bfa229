"""Workflow files: reading, validating, expanding.

The names below load on first use, so that importing :mod:`torc_supervise.workflow.model` alone (to read an old
journal) stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torc_supervise.workflow.loading import Counts, Loaded, load
    from torc_supervise.workflow.problems import Problem, SpecError
    from torc_supervise.workflow.schema import json_schema
    from torc_supervise.workflow.stages import Plan, Stage, plan

__all__ = ["Counts", "Loaded", "Plan", "Problem", "SpecError", "Stage", "json_schema", "load", "plan"]

# No module has the name of a function here: importing it would put the module in the function's place.
_HOMES = {
    "Counts": "loading",
    "Loaded": "loading",
    "load": "loading",
    "Plan": "stages",
    "Stage": "stages",
    "plan": "stages",
    "Problem": "problems",
    "SpecError": "problems",
    "json_schema": "schema",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
