"""Allocations: what the journal knows of batch jobs."""

from __future__ import annotations

from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.workflow.model import Job, Workflow

T = "2026-01-31T12:00:00.000000Z"


def story(*records: r.Record) -> WorkflowState:
    state = WorkflowState(1, Workflow("w", (Job(1, "a", "true"),)))
    for record in records:
        state.apply(T, 0.0, record)
        state.check()
    return state


def states(state: WorkflowState) -> dict[str, str]:
    return {found.slurm_job_id: found.state.value for found in state.allocations}


SUBMITTED = r.AllocationSubmitted("7", "submit", "gpu")
RUN = r.RunStarted(1, "node1", 10, slurm_job_id="7")


def test_an_allocation_is_queued_runs_and_has_ended() -> None:
    assert states(story(SUBMITTED)) == {"7": "queued"}
    assert states(story(SUBMITTED, RUN)) == {"7": "running"}
    ended = story(SUBMITTED, RUN, r.RunEnded(1, "terminated", 75))
    assert states(ended) == {"7": "ended"}
    (found,) = ended.allocations
    assert found.submitted == SUBMITTED


def test_a_run_in_an_allocation_that_we_did_not_queue_is_known_as_well() -> None:
    state = story(RUN)
    assert states(state) == {"7": "running"}
    (found,) = state.allocations
    assert found.submitted is None


def test_a_queued_allocation_is_canceled_or_gone() -> None:
    assert states(story(SUBMITTED, r.AllocationEnded("7", "canceled"))) == {"7": "canceled"}
    assert states(story(SUBMITTED, r.AllocationEnded("7", "gone", "no trace"))) == {"7": "gone"}
    assert states(story(SUBMITTED, r.AllocationEnded("7", "finished"))) == {"7": "ended"}


def test_they_are_kept_in_the_order_in_which_they_were_heard_of() -> None:
    state = story(SUBMITTED, RUN, r.RunEnded(1, "terminated"), r.AllocationSubmitted("3", "auto_resubmit"))
    assert list(states(state)) == ["7", "3"]
    assert state.allocations.newest == state.allocations.get("3")
    assert state.allocations.queued == [state.allocations.get("3")]


def test_an_end_that_moved_is_the_supervisors_end() -> None:
    state = story(RUN, r.EndChanged(1, T))
    assert state.supervisor is not None
    assert state.supervisor.record.end_time == T
    assert state.supervisor.started_at == T


def test_an_action_that_was_taken_is_known_by_its_position() -> None:
    state = story(r.ActionTaken(1, 2, "on_jobs_ready", ok=False, message="exit code 1"))
    assert state.actions_taken[2].message == "exit code 1"
