"""When two states are the same."""

from __future__ import annotations

from typing import Any

from torc_supervise.machine.state import WorkflowState


def fingerprint(state: WorkflowState) -> dict[str, Any]:
    """Everything that matters, as plain data: two states with equal fingerprints are the same."""
    jobs = state.workflow.jobs
    return {
        "run_id": state.run_id,
        "state": state.state,
        "canceled": state.canceled,
        "status": {j.name: state.status[j.job_id] for j in jobs},
        "attempt": {j.name: state.attempt[j.job_id] for j in jobs},
        "removed": dict(state.removed),
        "live": dict(state.live),
        "results": dict(state.results),
        "files_seen": dict(state.files_seen),
        "warnings": list(state.warnings),
        "actions_taken": dict(state.actions_taken),
    }
