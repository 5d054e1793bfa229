"""torc-supervise: runs a workflow of shell jobs inside an HPC allocation and ends it gracefully before wall time.

The names below are the public ones.  Each is imported on first use, so that a program which only asks for the status of
a workflow does not load what reads workflow files.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any

    from torc_supervise.errors import (
        EXIT_FAILED,
        EXIT_OK,
        EXIT_OURS,
        EXIT_RESUME,
        EXIT_USAGE,
        TorcError,
        UsageError,
    )
    from torc_supervise.machine.state import WorkflowState
    from torc_supervise.machine.status import Status
    from torc_supervise.operations.allocation_plan import SubmitOptions, advise
    from torc_supervise.operations.cancel import Canceled, cancel
    from torc_supervise.operations.listing import jobs, results, workflows
    from torc_supervise.operations.logs import LogFile, Logs, batch_files, content, follow, log_files
    from torc_supervise.operations.lookup import look_up
    from torc_supervise.operations.opened import open_workflow
    from torc_supervise.operations.reinitialize import (
        ReinitializePlan,
        check_directory,
        plan_reinitialize,
        read_only,
        reinitialize,
        take_over_ids,
    )
    from torc_supervise.operations.repair import Repaired, repair
    from torc_supervise.operations.reset import reset_status
    from torc_supervise.operations.run import RunReport
    from torc_supervise.operations.start import Started, run_existing, run_new
    from torc_supervise.operations.submit import (
        Submitted,
        dry_run,
        submit_existing,
        submit_new,
    )
    from torc_supervise.operations.surroundings import RunOptions
    from torc_supervise.operations.sync import Synced, sync_status
    from torc_supervise.store.layout import DEFAULT_OUTPUT_DIRECTORY, find, workflow_ids
    from torc_supervise.workflow import Loaded, Plan, Problem, SpecError, json_schema, load, plan
    from torc_supervise.workflow.duration import parse_time_limit
    from torc_supervise.workflow.model import Workflow

__all__ = [
    "DEFAULT_OUTPUT_DIRECTORY",
    "EXIT_FAILED",
    "EXIT_OK",
    "EXIT_OURS",
    "EXIT_RESUME",
    "EXIT_USAGE",
    "Canceled",
    "Loaded",
    "LogFile",
    "Logs",
    "Plan",
    "Problem",
    "ReinitializePlan",
    "Repaired",
    "RunOptions",
    "RunReport",
    "SpecError",
    "Started",
    "Status",
    "SubmitOptions",
    "Submitted",
    "Synced",
    "TorcError",
    "UsageError",
    "Workflow",
    "WorkflowState",
    "__version__",
    "advise",
    "batch_files",
    "cancel",
    "check_directory",
    "content",
    "dry_run",
    "find",
    "follow",
    "jobs",
    "json_schema",
    "load",
    "log_files",
    "look_up",
    "open_workflow",
    "parse_time_limit",
    "plan",
    "plan_reinitialize",
    "read_only",
    "reinitialize",
    "repair",
    "reset_status",
    "results",
    "run_existing",
    "run_new",
    "submit_existing",
    "submit_new",
    "sync_status",
    "take_over_ids",
    "workflow_ids",
    "workflows",
]

_HOMES = {
    "errors": ("EXIT_FAILED", "EXIT_OK", "EXIT_OURS", "EXIT_RESUME", "EXIT_USAGE", "TorcError", "UsageError"),
    "operations.allocation_plan": ("SubmitOptions", "advise"),
    "operations.cancel": ("Canceled", "cancel"),
    "operations.listing": ("jobs", "results", "workflows"),
    "machine.state": ("WorkflowState",),
    "machine.status": ("Status",),
    "operations.logs": ("LogFile", "Logs", "batch_files", "content", "follow", "log_files"),
    "operations.lookup": ("look_up",),
    "operations.opened": ("open_workflow",),
    "operations.reinitialize": (
        "ReinitializePlan",
        "check_directory",
        "plan_reinitialize",
        "read_only",
        "reinitialize",
        "take_over_ids",
    ),
    "operations.repair": ("Repaired", "repair"),
    "operations.reset": ("reset_status",),
    "operations.run": ("RunReport",),
    "operations.start": ("Started", "run_existing", "run_new"),
    "operations.submit": ("Submitted", "dry_run", "submit_existing", "submit_new"),
    "operations.surroundings": ("RunOptions",),
    "operations.sync": ("Synced", "sync_status"),
    "store.layout": ("DEFAULT_OUTPUT_DIRECTORY", "find", "workflow_ids"),
    "workflow": ("Loaded", "Plan", "Problem", "SpecError", "json_schema", "load", "plan"),
    "workflow.duration": ("parse_time_limit",),
    "workflow.model": ("Workflow",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
