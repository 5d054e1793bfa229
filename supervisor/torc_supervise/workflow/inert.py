"""Fields that are read and checked but do nothing yet, and the one warning that names them."""

from __future__ import annotations

from collections.abc import Iterator

from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence, is_null
from torc_supervise.workflow.report import Report

# Pattern of a field path -> how the warning calls it.  ``[]`` stands for every item of a list, ``=value`` for a
# field of that value only.  Delete the line when the field does something.
NOT_ACTED_ON: dict[str, str] = {
    "failure_handlers": "failure_handlers",
    "jobs[].failure_handler": "failure_handler",
    "resource_monitor.generate_plots": "resource_monitor.generate_plots",
    "resource_monitor.flush_interval_seconds": "resource_monitor.flush_interval_seconds",
    "resource_monitor.compute_node": "resource_monitor.compute_node",
    "resource_monitor.granularity=time_series": "resource_monitor.granularity: time_series",
    "resource_monitor.jobs.granularity=time_series": "resource_monitor.jobs.granularity: time_series",
    "execution_config.srun_mpi": "execution_config.srun_mpi",
    "execution_config.staggered_start": "execution_config.staggered_start",
    "compute_node_expiration_buffer_seconds": "compute_node_expiration_buffer_seconds",
    "compute_node_wait_for_new_jobs_seconds": "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion": "compute_node_ignore_workflow_completion",
    "compute_node_wait_for_healthy_database_minutes": "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds": "compute_node_min_time_for_new_jobs_seconds",
    "use_pending_failed": "use_pending_failed",
    "user_data[].is_ephemeral": "is_ephemeral",
}


def warn_not_acted_on(root: Mapping, report: Report) -> None:
    """Add one warning that names every such field of the file, at the place of the first."""
    found: list[tuple[Node, str]] = []
    for pattern, label in NOT_ACTED_ON.items():
        path, _, value = pattern.partition("=")
        keys = (key for key, node in _find(root, path.split(".")) if not value or _is(node, value))
        if (key := next(keys, None)) is not None:
            found.append((key, label))
    if found:
        found.sort(key=lambda item: (item[0].line, item[0].column))
        report.warn(found[0][0], "", f"not acted on yet: {', '.join(label for _, label in found)}")


def _find(node: Node, steps: list[str]) -> Iterator[tuple[Node, Node]]:
    """Key and value of every field that the steps lead to and that is not null."""
    step, *rest = steps
    name = step.removesuffix("[]")
    if not isinstance(node, Mapping) or name not in node.entries or is_null(node.entries[name]):
        return
    value = node.entries[name]
    if not rest:
        yield node.keys[name], value
    elif step.endswith("[]") and isinstance(value, Sequence):
        for item in value.items:
            yield from _find(item, rest)
    elif not step.endswith("[]"):
        yield from _find(value, rest)


def _is(node: Node, value: str) -> bool:
    return isinstance(node, Scalar) and node.value == value
