"""Cancel: end what runs of a workflow, and say that it is not to go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torc_supervise.errors import TorcError, WorkflowBusy
from torc_supervise.machine.records import WorkflowCanceled
from torc_supervise.operations.lookup import ask, look_up
from torc_supervise.operations.opened import open_workflow
from torc_supervise.store import layout
from torc_supervise.store.layout import WorkflowFiles


@dataclass(frozen=True, slots=True)
class Canceled:
    """``asked``: a live supervisor was asked and ends ``running`` jobs; otherwise nothing was running."""

    workflow_id: int
    asked: bool
    running: int


def cancel(output: str, workflow_id: int, say: Callable[[str], None]) -> Canceled:
    """Ask the live supervisor on this host, or note it in the journal where nothing runs.

    Raises:
        TorcError: it runs on another host or as another user, or its supervisor does not answer.
    """
    files = layout.find(output, workflow_id)
    head = look_up(output, workflow_id, with_jobs=False).head
    supervisor = head.get("supervisor") or {}
    if supervisor.get("alive"):
        running = head["jobs_by_status"]["running"]
        control = supervisor.get("control")
        if supervisor.get("host") == os.uname().nodename and control and ask(control, {"ask": "cancel"}):
            return Canceled(workflow_id, True, running)
        raise _out_of_reach(files, supervisor)
    with open_workflow(files, "cancel", say) as opened:
        if opened.state.outcome().value == "completed":
            raise TorcError(f"workflow {workflow_id} is completed; there is nothing to cancel")
        opened.append(WorkflowCanceled(opened.state.run_id))
        opened.write_snapshot()
    return Canceled(workflow_id, False, 0)


def _out_of_reach(files: WorkflowFiles, supervisor: dict[str, Any]) -> WorkflowBusy:
    pid, host = supervisor.get("pid"), supervisor.get("host")
    who = f"workflow {files.workflow_id} is run by pid {pid} on {host}"
    if host != os.uname().nodename:
        return WorkflowBusy(
            f"{who}, which cannot be asked from here",
            "run 'torc-supervise cancel' on that host, or end its allocation with scancel",
        )
    owner = os.stat(files.journal).st_uid
    if owner != os.geteuid():
        return WorkflowBusy(
            f"{who} as the user with id {owner}, and answers that user alone", "cancel it as that user"
        )
    return WorkflowBusy(
        f"{who}, and its keeper does not answer",
        f"'kill -TERM {pid}' ends it gracefully; its jobs are then recorded as terminated, and not as canceled",
    )
