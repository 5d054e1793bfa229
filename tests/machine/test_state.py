"""What follows from the records: statuses, dependents, resets.  ``check()`` after every record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fingerprints import fingerprint
from support.replaying import job, state_of, workflow
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import SETTLED, RunState, Status
from torc_supervise.workflow.model import Job


class Story:
    """Applies records and checks the state after each."""

    def __init__(self, *jobs: Job) -> None:
        self.state = state_of(*jobs)
        self.t = 0
        self.state.check()

    def apply(self, record: r.Record) -> tuple[int, ...]:
        self.t += 1
        ready = self.state.apply(f"t{self.t}", float(self.t), record)
        self.state.check()
        return ready

    def begin(self) -> Story:
        self.apply(r.RunStarted(self.state.run_id, "host", 1))
        return self

    def run(self, job_id: int, status: str = "completed", **fields: Any) -> tuple[int, ...]:
        run_id, attempt = self.state.run_id, self.state.attempt_of(job_id)
        self.apply(r.JobStarted(run_id, job_id, attempt, 9, 9))
        return self.apply(r.JobEnded(run_id, job_id, attempt, status, "exited", **fields))

    def reinitialize(self, *job_ids: int) -> tuple[int, ...]:
        return self.apply(r.Reinitialized(self.state.run_id + 1, {str(j): "was reset" for j in job_ids}))

    def statuses(self) -> list[str]:
        return [self.state.status[j.job_id].value for j in self.state.workflow.jobs]


def test_at_first_roots_are_ready_and_the_rest_is_blocked() -> None:
    story = Story(job(1), job(2, depends_on=(1,)), job(3))
    assert story.statuses() == ["ready", "blocked", "ready"]
    assert story.state.ready_jobs() == [1, 3]
    assert story.state.state is RunState.READY


def test_a_dependent_is_ready_when_its_last_dependency_has_completed() -> None:
    story = Story(job(1), job(2), job(3, depends_on=(1, 2)))
    assert story.run(1) == ()
    assert story.run(2) == (3,)
    assert story.statuses() == ["completed", "completed", "ready"]


def test_a_failure_cancels_dependents_all_the_way_down() -> None:
    story = Story(job(1), job(2, depends_on=(1,)), job(3, depends_on=(2,)), job(4))
    story.run(1, "failed", return_code=1)
    assert story.statuses() == ["failed", "canceled", "canceled", "ready"]
    assert story.state.newly_canceled == (2, 3)


def test_a_failure_cancels_only_once_all_dependencies_have_settled() -> None:
    story = Story(job(1), job(2), job(3, depends_on=(1, 2)))
    story.run(1, "failed")
    assert story.statuses() == ["failed", "ready", "blocked"]
    story.run(2)
    assert story.statuses() == ["failed", "completed", "canceled"]


def test_with_the_flag_false_a_dependent_runs_after_a_failure() -> None:
    story = Story(
        job(1),
        job(2, depends_on=(1,), cancel_on_blocking_job_failure=False),
        job(3, depends_on=(1,)),
        job(4, depends_on=(3,), cancel_on_blocking_job_failure=False),
    )
    assert story.run(1, "failed") == (2, 4)
    assert story.statuses() == ["failed", "ready", "canceled", "ready"]


@pytest.mark.parametrize("return_code", [0, 143, 152])
def test_a_terminated_job_leaves_its_dependents_blocked_whatever_its_code(return_code: int) -> None:
    """They never run on half a result, and are not canceled."""
    story = Story(job(1), job(2, depends_on=(1,)), job(3, depends_on=(2,))).begin()
    assert story.run(1, "terminated", return_code=return_code) == ()
    assert story.statuses() == ["terminated", "blocked", "blocked"]
    assert story.state.outcome() is RunState.TERMINATED


def test_a_canceled_job_counts_as_a_failure_for_its_dependents() -> None:
    story = Story(job(1), job(2, depends_on=(1,)))
    story.run(1, "canceled")
    assert story.statuses() == ["canceled", "canceled"]


def test_a_long_chain_is_canceled_without_recursion() -> None:
    chain = [job(1), *(job(n, depends_on=(n - 1,)) for n in range(2, 5001))]
    state = state_of(*chain)
    state.apply("t", 1.0, r.JobStarted(1, 1, 1, 9, 9))
    state.apply("t", 1.0, r.JobEnded(1, 1, 1, "failed", "exited", 1))
    state.check()
    assert state.counts[Status.CANCELED] == 4999
    assert len(state.newly_canceled) == 4999


# -- the next run -----------------------------------------------------------------------------------------------


def test_reinitialize_revives_terminated_jobs_and_keeps_what_is_done() -> None:
    story = Story(job(1), job(2), job(3, depends_on=(1, 2))).begin()
    story.run(1)
    story.run(2, "terminated")
    assert story.reinitialize() == (2,)
    assert story.statuses() == ["completed", "ready", "blocked"]
    assert (story.state.run_id, story.state.attempt_of(2)) == (2, 1)
    assert set(story.state.results) == {1}
    assert story.run(2) == (3,)


def test_reinitialize_takes_the_dependents_of_a_reset_job_along() -> None:
    story = Story(job(1), job(2, depends_on=(1,)), job(3)).begin()
    for job_id in (1, 2, 3):
        story.run(job_id)
    story.reinitialize(1)
    assert story.statuses() == ["ready", "blocked", "completed"]


def test_reinitialize_keeps_failures_that_nobody_reset_and_cancels_below_them_again() -> None:
    story = Story(job(1), job(2), job(3, depends_on=(1, 2))).begin()
    story.run(1, "failed")
    story.run(2, "terminated")
    story.reinitialize()
    assert story.statuses() == ["failed", "ready", "blocked"]
    story.run(2)
    assert story.statuses() == ["failed", "completed", "canceled"]


def test_reinitialize_forgets_that_the_workflow_was_canceled() -> None:
    story = Story(job(1)).begin()
    story.apply(r.WorkflowCanceled(1))
    story.apply(r.RunEnded(1, "canceled", 1))
    assert story.state.state is RunState.CANCELED
    story.reinitialize()
    assert story.state.state is not RunState.CANCELED


def test_a_second_attempt_in_the_same_run_counts_on() -> None:
    story = Story(job(1)).begin()
    story.run(1, "failed")
    assert story.state.attempt_of(1) == 2


def test_a_reset_below_blocks_a_ready_job_again() -> None:
    story = Story(job(1), job(2, depends_on=(1,))).begin()
    story.run(1)
    story.apply(r.StatusReset((1,)))
    assert story.statuses() == ["uninitialized", "blocked"]
    story.reinitialize()
    assert story.statuses() == ["ready", "blocked"]


def test_an_update_keeps_statuses_by_job_and_blocks_what_now_has_to_wait() -> None:
    story = Story(job(1), job(2), job(3)).begin()
    story.run(1)
    updated = workflow(job(1), job(2, depends_on=(4,)), job(4, "new"))
    story.apply(r.WorkflowUpdated(updated.to_dict()))
    assert story.statuses() == ["completed", "blocked", "uninitialized"]
    assert set(story.state.results) == {1}
    assert story.reinitialize(2, 4) == (4,)
    assert story.statuses() == ["completed", "blocked", "ready"]


def test_a_workflow_says_what_it_is_doing() -> None:
    story = Story(job(1), job(2))
    assert story.state.state is RunState.READY
    story.begin()
    assert story.state.state is RunState.RUNNING
    story.apply(r.TerminationStarted(1, "signal", 0, 0))
    assert story.state.state is RunState.TERMINATING
    story.apply(r.RunEnded(1, "terminated", 75))
    assert story.state.state is RunState.TERMINATED, "a ready job is left: resume it"
    story.apply(r.RunStarted(1, "host", 2))
    story.run(1)
    story.run(2, "failed")
    story.apply(r.RunEnded(1, "failed", 1))
    assert story.state.state is RunState.FAILED


def test_only_the_last_warnings_are_kept() -> None:
    story = Story(job(1))
    for n in range(50):
        story.apply(r.Warned(1, "code", str(n)))
    assert [w.message for _, w in story.state.warnings] == [str(n) for n in range(30, 50)]


def test_records_that_only_tell_something_change_nothing() -> None:
    story = Story(job(1))
    before = fingerprint(story.state)
    for record in (
        r.JobSignaled(1, 1, 1, 9, "SIGTERM", "signal"),  # of no live attempt
        r.SignalReceived(1, "SIGTERM"),
        r.JobsCanceled(1, 1, (2,)),
    ):
        assert story.apply(record) == ()
    assert fingerprint(story.state) == before


def test_p6_a_live_attempt_knows_when_and_why_it_was_first_signalled() -> None:
    story = Story(job(1))
    story.begin().apply(r.JobStarted(1, 1, 1, 9, 9))
    assert (story.state.live[1].asked_at, story.state.live[1].last_signal) == (None, None)
    story.apply(r.JobSignaled(1, 1, 1, 9, "SIGTERM", "signal"))
    asked = story.state.live[1]
    assert (asked.asked_at, asked.asked_why, asked.last_signal) == (3.0, "signal", "SIGTERM")
    assert asked.mono == 2.0
    story.apply(r.JobSignaled(1, 1, 1, 9, "SIGKILL", "signal"))
    killed = story.state.live[1]
    assert (killed.asked_at, killed.asked_why, killed.last_signal) == (3.0, "signal", "SIGKILL")
    story.apply(r.JobEnded(1, 1, 1, "terminated", "killed"))
    story.apply(r.JobStarted(1, 1, 2, 9, 9))
    assert story.state.live[1].asked_at is None, "another attempt"


@st.composite
def graphs(draw: st.DrawFn) -> list[Job]:
    count = draw(st.integers(1, 8))
    return [
        job(
            job_id,
            depends_on=tuple(d for d in range(1, job_id) if draw(st.booleans())),
            cancel_on_blocking_job_failure=draw(st.booleans()),
        )
        for job_id in range(1, count + 1)
    ]


def expected(state: WorkflowState, j: Job) -> set[Status]:
    """What the status of a job that was never run can be, by the rules and not by the counters."""
    below = [state.status[d] for d in j.depends_on]
    if any(s not in SETTLED for s in below):
        return {Status.BLOCKED}
    bad = any(s is not Status.COMPLETED for s in below)
    return {Status.CANCELED} if bad and j.cancel_on_blocking_job_failure else {Status.READY}


@given(graphs(), st.data())
def test_statuses_are_what_the_rules_say_in_any_order_of_results_and_resets(
    jobs: list[Job], data: st.DataObject
) -> None:
    story = Story(*jobs).begin()
    ran: set[int] = set()
    for _ in range(12):
        ready = story.state.ready_jobs()
        if ready and data.draw(st.integers(0, 4)):
            job_id = data.draw(st.sampled_from(ready))
            status = data.draw(
                st.sampled_from(["completed", "completed", "failed", "terminated", "canceled"])
            )
            became_ready = story.run(job_id, status)
            ran.add(job_id)
            assert set(became_ready) == set(story.state.ready_jobs()) - (set(ready) - {job_id})
        else:
            reset = data.draw(st.lists(st.sampled_from(jobs), max_size=2))
            became_ready = story.reinitialize(*(j.job_id for j in reset))
            ran = {j for j in ran if story.state.status[j] in SETTLED and j in story.state.results}
            assert set(became_ready) <= set(story.state.ready_jobs())
        for j in jobs:
            if j.job_id not in ran:
                assert story.state.status[j.job_id] in expected(story.state, j)
