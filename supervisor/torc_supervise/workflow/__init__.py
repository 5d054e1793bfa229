"""Workflow files: reading, validating, expanding.

The names below load on first use, so that importing :mod:`torc_supervise.workflow.model` alone (to read an old
journal) stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torc_supervise.workflow.load import Counts, Loaded, load
    from torc_supervise.workflow.plan import Plan, Stage, plan
    from torc_supervise.workflow.problems import Problem, SpecError
    from torc_supervise.workflow.schema import json_schema

__all__ = ["Counts", "Loaded", "Plan", "Problem", "SpecError", "Stage", "json_schema", "load", "plan"]

_HOMES = {
    "Counts": "load",
    "Loaded": "load",
    "load": "load",
    "Plan": "plan",
    "Stage": "plan",
    "plan": "plan",
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
