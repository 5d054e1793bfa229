"""Listings: results, jobs and workflows, read without any lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torc_supervise.errors import TorcError
from torc_supervise.machine.records import JobEnded
from torc_supervise.operations.lookup import look_up, replay, unreadable
from torc_supervise.store import journal, layout, view
from torc_supervise.store.jsontext import loads
from torc_supervise.store.layout import WorkflowFiles


def results(output: str, workflow_id: int | None, *, all_runs: bool = False) -> list[dict[str, Any]]:
    """One row per attempt that ended, in order of completion; of the newest run only, unless ``all_runs``.

    Raises:
        WorkflowNotFound, JournalError, TorcError.
    """
    files = layout.find(output, workflow_id)
    state = replay(files)
    return [
        view.result_row(state, files, t, record)
        for t, record in _ended(files)
        if all_runs or record.run_id == state.run_id
    ]


def _ended(files: WorkflowFiles) -> Iterator[tuple[str, JobEnded]]:
    try:
        for entry in journal.read(files.journal):
            if isinstance(entry.record, JobEnded):
                yield entry.t, entry.record
    except OSError as error:
        raise unreadable(error) from error


def jobs(output: str, workflow_id: int | None) -> list[dict[str, Any]]:
    """One row per job, as in the status document."""
    text = look_up(output, workflow_id, with_jobs=True).text
    assert text is not None
    rows: list[dict[str, Any]] = loads(text)["jobs"]
    return rows


def workflows(output: str) -> list[dict[str, Any]]:
    """One row per workflow; one that cannot be read has its problem in ``error``."""
    rows = []
    for workflow_id in layout.workflow_ids(output):
        try:
            head = look_up(output, workflow_id, with_jobs=False).head
        except TorcError as error:
            rows.append({"workflow_id": workflow_id, "error": error.message})
            continue
        names = ("workflow_id", "name", "user", "state", "run_id", "created", "jobs_by_status", "directory")
        rows.append({name: head[name] for name in names})
    return rows
