"""Which action is due when, and what stays taken."""

from __future__ import annotations

from typing import Any

import pytest

from support.errands import entry
from support.replaying import job, state_of
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.triggers import Triggers
from torc_supervise.workflow.model import Job, Workflow


class Story:
    """A workflow with actions; each run has new triggers.  Actions that are due are taken at once."""

    def __init__(self, jobs: list[Job], *entries: dict[str, Any]) -> None:
        self.state: WorkflowState = state_of(*jobs, extra={"actions": list(entries)})
        self.triggers = Triggers(self.state)

    def begin(self) -> list[int]:
        self.apply(r.RunStarted(self.state.run_id, "host", 1))
        self.triggers = Triggers(self.state)
        return self.take(self.triggers.at_begin())

    def run(self, job_id: int, status: str = "completed") -> list[int]:
        run_id, attempt = self.state.run_id, self.state.attempt_of(job_id)
        self.apply(r.JobStarted(run_id, job_id, attempt, 9, 9))
        record = r.JobEnded(run_id, job_id, attempt, status, "exited")
        self.apply(record)
        return self.take(self.triggers.on_ended(record))

    def end(self) -> list[int]:
        due = self.take(self.triggers.at_end())
        self.apply(r.RunEnded(self.state.run_id, self.state.outcome().value, 0))
        return due

    def again(self, *job_ids: int) -> list[int]:
        self.apply(r.Reinitialized(self.state.run_id + 1, {str(j): "was reset" for j in job_ids}))
        return self.begin()

    def apply(self, record: r.Record) -> None:
        self.state.apply("t", 0.0, record)
        self.state.check()

    def take(self, actions: list[Any], *, ok: bool = True) -> list[int]:
        for action in actions:
            self.apply(r.ActionTaken(self.state.run_id, action.index, action.trigger, ok))
        return [action.index for action in actions]


def test_start_and_end_of_a_workflow_and_of_a_run() -> None:
    story = Story(
        [job(1)],
        entry("on_workflow_complete"),
        entry("on_worker_complete"),
        entry("on_worker_start"),
        entry("on_workflow_start"),
    )
    assert story.begin() == [2, 3], "in file order"
    assert story.run(1) == []
    assert story.end() == [0, 1]
    assert story.begin() == [2], "a run begins again; a workflow has begun once"
    assert story.end() == [1]


def test_a_workflow_with_work_left_is_not_complete() -> None:
    story = Story([job(1), job(2, depends_on=(1,))], entry("on_workflow_complete"))
    story.begin()
    story.run(1, "terminated")
    assert story.end() == []
    story.again(1)
    story.run(1)
    assert story.end() == []
    story.begin()
    story.run(2, "failed")
    assert story.end() == [0], "complete is not successful"


def test_jobs_ready_waits_for_the_last_of_them() -> None:
    jobs = [job(1), job(2), job(3, depends_on=(1,)), job(4, depends_on=(2,))]
    story = Story(jobs, entry("on_jobs_ready", 3, 4), entry("on_jobs_ready", 1))
    assert story.begin() == [1]
    assert story.run(1) == []
    assert story.run(3) == []
    assert story.run(2) == [0]
    assert story.run(4) == []


def test_jobs_complete_counts_every_way_to_settle_and_nothing_else() -> None:
    jobs = [job(1), job(2), job(3), job(4, depends_on=(2,))]
    story = Story(jobs, entry("on_jobs_complete", 1, 2, 3, 4), entry("on_jobs_complete", 1))
    assert story.begin() == []
    assert story.run(1, "terminated") == []
    story.again(1)
    assert story.run(1) == [1]
    assert story.run(3, "canceled") == []
    assert story.run(2, "failed") == [0], "4 was canceled with it"


def test_jobs_that_are_canceled_are_not_waited_for_to_be_ready() -> None:
    jobs = [job(1), job(2), job(3, depends_on=(1,)), job(4, depends_on=(2,))]
    story = Story(jobs, entry("on_jobs_ready", 3, 4), entry("on_jobs_ready", 4))
    story.begin()
    assert story.run(1) == []
    assert story.run(2, "failed") == [0], "and where nothing is left to be ready, nothing is due"


def test_an_action_is_taken_once_however_often_its_job_is_resumed() -> None:
    story = Story([job(1), job(2)], entry("on_jobs_ready", 1), entry("on_jobs_complete", 2))
    assert story.begin() == [0]
    assert story.run(2) == [1]
    story.run(1, "terminated")
    story.end()
    assert story.again(1) == []
    story.run(1)
    story.end()
    assert story.begin() == []


def test_an_action_whose_job_runs_again_from_its_start_is_due_again() -> None:
    story = Story(
        [job(1), job(2, depends_on=(1,)), job(3)],
        entry("on_jobs_ready", 2),
        entry("on_jobs_complete", 2),
        entry("on_jobs_complete", 3),
        entry("on_workflow_complete"),
        entry("on_workflow_start"),
    )
    assert story.begin() == [4]
    assert story.run(3) == [2]
    assert story.run(1) == [0]
    assert story.run(2) == [1]
    assert story.end() == [3]
    assert story.again(1) == [], "and with job 1 what depends on it"
    assert story.run(1) == [0]
    assert story.run(2) == [1]
    assert story.end() == [3]


def test_jobs_that_were_reset_by_hand_arm_their_actions_too() -> None:
    story = Story([job(1)], entry("on_jobs_complete", 1))
    story.begin()
    assert story.run(1) == [0]
    story.end()
    story.apply(r.StatusReset((1,)))
    story.again(1)
    assert story.run(1) == [0]


def test_persistent_actions_are_due_whenever_it_becomes_true_again() -> None:
    story = Story(
        [job(1)],
        entry("on_jobs_ready", 1, persistent=True),
        entry("on_workflow_start", persistent=True),
    )
    assert story.begin() == [1, 0]
    story.run(1, "terminated")
    story.end()
    assert story.again(1) == [1, 0]
    story.run(1)
    story.end()
    assert story.begin() == [], "nothing became true"


@pytest.mark.parametrize(("kind", "due_again"), [("run_commands", False), ("schedule_nodes", True)])
def test_only_commands_that_failed_are_not_tried_again(kind: str, due_again: bool) -> None:
    story = Story([job(1)], entry("on_jobs_ready", 1, kind=kind))
    (action,) = story.triggers.at_begin()
    story.take([action], ok=False)
    assert story.triggers.at_begin() == [], "not in the same run"
    assert bool(Triggers(story.state).at_begin()) is due_again


def test_a_new_version_of_the_file_keeps_what_was_taken() -> None:
    story = Story([job(1)], entry("on_jobs_ready", 1), entry("on_workflow_start"))
    assert story.begin() == [1, 0]
    new = entry("on_workflow_start", commands=["echo changed"])
    changed = Workflow(
        "test",
        (job(1), job(2)),
        extra={"actions": [new, entry("on_workflow_start"), entry("on_jobs_ready", 1)]},
    )
    story.apply(r.WorkflowUpdated(changed.to_dict()))
    assert story.again() == [0]


def test_the_work_for_a_record_does_not_grow_with_the_actions() -> None:
    """Each watched job is counted down once for each action that watches it, and then forgotten."""
    jobs = [job(number) for number in range(1, 301)]
    story = Story(jobs, *[entry("on_jobs_complete", *range(1, 301)) for _ in range(20)])
    story.begin()
    looked: list[int] = []
    count = Triggers._count

    def counting(self: Triggers, waiting: dict[int, list[int]], job_id: int) -> list[int]:
        looked.append(len(waiting.get(job_id, ())))
        return count(self, waiting, job_id)

    story.triggers._count = counting.__get__(story.triggers)  # type: ignore[method-assign]
    for each in jobs[:-1]:
        assert story.run(each.job_id) == []
    assert story.run(300) == list(range(20))
    assert sum(looked) == 300 * 20
