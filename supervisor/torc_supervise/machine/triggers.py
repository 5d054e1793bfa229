"""Triggers: which action is due when.  Pure; see docs/decisions/0017 for what "once" means.

Every watched job is counted down once for each action that watches it; an action is due when its count is zero.  So a
record costs what the jobs that it concerns cost, however many jobs and actions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from torc_supervise.machine import records as r
from torc_supervise.machine.status import SETTLED, Status
from torc_supervise.workflow.actions import Action, actions_of, written
from torc_supervise.workflow.model import JobId, Workflow

if TYPE_CHECKING:
    from torc_supervise.machine.state import WorkflowState

_NOT_READY = frozenset({Status.UNINITIALIZED, Status.BLOCKED})
COMPLETE = SETTLED | {Status.DISABLED}
_OF_A_WORKER = frozenset({"on_worker_start", "on_worker_complete"})


class Triggers:
    """Of one run.  Each action is given out at most once.

    Invariant: ``_missing[i]`` is the number of jobs of action i that are still in the watch list of its trigger.
    """

    def __init__(self, state: WorkflowState) -> None:
        self._state = state
        self._actions = actions_of(state.workflow)
        self._given: set[int] = set()
        self._missing: dict[int, int] = {}
        self._to_be_ready: dict[JobId, list[int]] = {}  # job id -> indexes of actions that wait for it
        self._to_be_complete: dict[JobId, list[int]] = {}
        for action in self._actions:
            if action.trigger == "on_jobs_ready":
                self._watch(action, self._to_be_ready, lambda status: status in _NOT_READY)
            elif action.trigger == "on_jobs_complete":
                self._watch(action, self._to_be_complete, lambda status: status not in COMPLETE)

    def at_begin(self) -> list[Action]:
        """Those that are due as the run begins, the ones that jobs must wait for first."""
        due = [a for a in self._actions if a.trigger in ("on_workflow_start", "on_worker_start")]
        due += [self._actions[index] for index, missing in self._missing.items() if not missing]
        return self._give(due)

    def at_end(self) -> list[Action]:
        """Those that are due when nothing runs any more and nothing more will start."""
        over = everything_settled(self._state)
        due = [a for a in self._actions if a.trigger == "on_workflow_complete"] if over else []
        due += [a for a in self._actions if a.trigger == "on_worker_complete"]
        return self._give(due)

    def on_ended(self, record: r.JobEnded) -> list[Action]:
        """Those that are due because of this result, which has just been folded into the state."""
        state = self._state
        if not self._missing or Status(record.status) not in SETTLED:
            return []
        due: list[int] = []
        settled = (record.job_id, *state.newly_canceled)
        for job_id in settled:
            due += self._count(self._to_be_complete, job_id)
            due += self._count(self._to_be_ready, job_id)
        if self._to_be_ready:
            for job_id in settled:
                for dependent in state.dependents[job_id]:
                    if state.status[dependent] not in _NOT_READY:
                        due += self._count(self._to_be_ready, dependent)
        return self._give(self._actions[index] for index in sorted(due))

    def _watch(
        self, action: Action, waiting: dict[JobId, list[int]], is_missing: Callable[[Status], bool]
    ) -> None:
        missing = [job_id for job_id in action.job_ids if is_missing(self._state.status[job_id])]
        self._missing[action.index] = len(missing)
        for job_id in missing:
            waiting.setdefault(job_id, []).append(action.index)

    def _count(self, waiting: dict[JobId, list[int]], job_id: JobId) -> list[int]:
        """The job has come to where they wait for it: those that wait for nothing more."""
        complete = []
        for index in waiting.pop(job_id, ()):
            self._missing[index] -= 1
            if not self._missing[index]:
                complete.append(index)
        return complete

    def _give(self, due: Iterable[Action]) -> list[Action]:
        given = []
        for action in due:
            if action.index not in self._given and self._is_open(action):
                self._given.add(action.index)
                given.append(action)
        return given

    def _is_open(self, action: Action) -> bool:
        """It was not taken, and there is something that it can be for."""
        if action.trigger in _OF_A_WORKER:
            return True
        taken = self._state.actions_taken.get(action.index)
        if taken is not None and (taken.ok or action.kind == "run_commands"):
            return False
        if action.trigger == "on_jobs_ready":
            return any(self._state.status[job_id] is not Status.CANCELED for job_id in action.job_ids)
        return True


def everything_settled(state: WorkflowState) -> bool:
    """Nothing is left to run, now or later."""
    return sum(state.counts[status] for status in COMPLETE) == len(state.workflow.jobs)


def rearmed(
    workflow: Workflow, taken: Mapping[int, r.ActionTaken], before: Mapping[JobId, Status]
) -> dict[int, r.ActionTaken]:
    """What is left of the actions that were taken when jobs are looked at anew.

    Args:
        before: the jobs that are, with the status that each had.
    """
    actions = actions_of(workflow) if taken else ()
    return {
        index: record
        for index, record in taken.items()
        if index < len(actions) and not _is_undone(actions[index], before)
    }


def _is_undone(action: Action, before: Mapping[JobId, Status]) -> bool:
    if action.trigger == "on_workflow_start":
        return action.persistent
    if action.trigger == "on_workflow_complete":
        return bool(before)
    again = [before[job_id] for job_id in action.job_ids if job_id in before]
    if action.trigger == "on_jobs_ready" and not action.persistent:
        # A job that is resumed was ready all the time.
        return any(status in SETTLED for status in again)
    return bool(again)


def carried_over(
    old: Workflow, new: Workflow, taken: Mapping[int, r.ActionTaken]
) -> dict[int, r.ActionTaken]:
    """The actions that were taken, by their positions in a new version of the workflow; what changed is new."""
    left = {index: written(entry) for index, entry in enumerate(old.extra.get("actions") or ())}
    result = {}
    for index, entry in enumerate(new.extra.get("actions") or ()):
        same = next((i for i, text in left.items() if text == written(entry)), None)
        if same is not None:
            del left[same]
            if same in taken:
                result[index] = taken[same]
    return result
