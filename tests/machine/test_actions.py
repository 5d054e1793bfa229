"""Actions of a run: what jobs wait for, what a failure changes (nothing), and how commands end with the run."""

from __future__ import annotations

from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from support.errands import Office, entry
from support.replaying import NEVER, Program, job
from torc_supervise.machine import records as r
from torc_supervise.machine.action_errands import ANSWER_WITHIN, LAST_GRACE, Actions, CommandPlace
from torc_supervise.machine.next_allocation import BatchPlace, NextAllocation
from torc_supervise.machine.status import Status
from torc_supervise.machine.step import UNKILLABLE_AFTER
from torc_supervise.workflow.model import ExecutionConfig

PLACE = CommandPlace("/out", "/out/actions.log", {"TORC_RUN_ID": "1"}, 1024)


def office(*entries: dict[str, Any], jobs: int = 1, **fields: Any) -> Office:
    made = [job(number) for number in range(1, jobs + 1)]
    return Office(*made, errands=[Actions(PLACE)], extra={"actions": list(entries)}, **fields)


def test_jobs_wait_for_the_commands_of_the_start_and_for_no_others() -> None:
    world = office(
        entry("on_worker_start", commands=["mkdir a"]),
        entry("on_workflow_start", commands=["mkdir b", "touch b/c"]),
        entry("on_jobs_ready", 1),
    )
    world.until(5.0)
    assert world.starts == []
    ((_, body),) = world.asked("run_commands")
    assert body["commands"] == ["mkdir a"]
    assert body["environment"] == {"TORC_RUN_ID": "1", "TORC_TRIGGER": "on_worker_start"}
    assert (body["directory"], body["log"], body["open_files"]) == ("/out", "/out/actions.log", 1024)
    world.answer("run_commands")
    assert world.starts == []
    world.answer("run_commands")
    assert [job_id for _, job_id in world.starts] == [1], "on_jobs_ready is still running"
    world.answer("run_commands")
    assert world.finish().taken() == [(0, True), (1, True), (2, True)]


def test_a_failure_is_recorded_and_changes_nothing_for_the_jobs() -> None:
    world = office(entry("on_worker_start"), entry("on_jobs_complete", 1))
    world.answer("run_commands", ok=False, message="command 1 of 1: exit code 3")
    world.until(20.0)
    world.answer("run_commands", ok=False, lost=True)
    world.answer("end_left_commands")
    world.finish()
    assert world.status(1) is Status.COMPLETED
    assert world.taken() == [(0, False), (1, False)]
    first, second = world.of(r.ActionTaken)
    assert first.message == "command 1 of 1: exit code 3"
    assert "keeper died" in second.message
    assert world.warnings() == ["action_failed", "action_failed"]


def test_jobs_do_not_start_beside_commands_that_a_dead_keeper_has_left() -> None:
    world = office(entry("on_worker_start"))
    world.answer("run_commands", ok=False, lost=True)
    world.until(20.0)
    ((at, body),) = world.asked("end_left_commands")
    assert (at, body["grace"], body["key"]) == (0.0, 30.0, world.asked("run_commands")[0][1]["key"])
    assert world.of(r.JobStarted) == []
    assert world.taken() == []
    world.answer("end_left_commands")
    assert world.finish().status(1) is Status.COMPLETED
    assert world.taken() == [(0, False)]


def test_p6_a_hurried_end_shortens_the_grace_of_what_a_dead_keeper_has_left() -> None:
    world = office(entry("on_worker_start"))
    world.answer("run_commands", ok=False, lost=True)
    world.until(5.0).signal(SIGINT)
    assert world.asked("end_commands") == [], "it has its grace, and no new one"
    world.until(6.0).signal(SIGINT)
    assert [(at, body["grace"]) for at, body in world.asked("end_commands")] == [(6.0, 0.0)]
    world.answer("end_left_commands")
    world.finish()
    assert world.of(r.JobStarted) == []


def test_p12_jobs_start_at_last_where_nobody_ends_what_a_dead_keeper_has_left() -> None:
    world = office(entry("on_worker_start"))
    world.answer("run_commands", ok=False, lost=True)
    world.finish()
    assert world.status(1) is Status.COMPLETED
    assert world.of(r.JobStarted)[0].job_id == 1
    (taken,) = world.of(r.ActionTaken)
    assert "nothing was heard of its commands" in (taken.message or "")


def test_commands_of_different_actions_run_one_after_the_other() -> None:
    world = office(entry("on_jobs_complete", 1), entry("on_jobs_complete", 2), jobs=2)
    world.until(20.0)
    assert len(world.asked("run_commands")) == 1
    world.answer("run_commands")
    world.answer("run_commands")
    assert world.finish().taken() == [(0, True), (1, True)]


def test_the_last_commands_run_when_nothing_else_does_and_before_the_run_ends() -> None:
    world = office(entry("on_worker_complete"), entry("on_workflow_complete"))
    world.until(9.0)
    assert world.asked("run_commands") == []
    world.until(500.0)
    assert not world.supervision.done
    world.answer("run_commands")
    world.answer("run_commands")
    assert world.supervision.done
    assert world.taken() == [(1, True), (0, True)]


def test_commands_are_asked_to_end_with_the_run_and_those_that_wait_do_not_begin() -> None:
    world = office(
        entry("on_jobs_ready", 1),
        entry("on_jobs_ready", 2),
        jobs=2,
        programs={1: Program(NEVER, saves=2.0), 2: Program(NEVER, saves=2.0)},
    ).until(5.0)
    world.signal(SIGTERM)
    (run,) = world.open("run_commands")
    assert world.asked("end_commands") == [(5.0, {"key": run.body["key"], "grace": 30.0})]
    world.until(20.0)
    assert not world.supervision.done, "it waits for them"
    world.answer("run_commands", ok=False, ended=True, message="ended with the run")
    world.finish()
    assert world.taken() == [], "both are due again in the next run, as jobs that were ended are"


def test_while_jobs_wait_for_commands_a_signal_ends_both() -> None:
    world = office(entry("on_workflow_start")).until(5.0)
    world.signal(SIGTERM)
    world.answer("run_commands", ok=False, ended=True)
    world.finish()
    assert world.starts == []
    assert world.status(1) is Status.READY


def test_repeated_signals_do_not_lengthen_the_grace_of_commands_and_a_second_interrupt_ends_it() -> None:
    world = office(entry("on_jobs_ready", 1), programs={1: Program(NEVER, saves=0.0)}).until(5.0)
    world.signal(SIGTERM)
    world.until(15.0)
    world.signal(SIGTERM)
    assert len(world.asked("end_commands")) == 1
    world.signal(SIGINT)
    world.until(16.0)
    world.signal(SIGINT)
    assert [(at, body["grace"]) for at, body in world.asked("end_commands")] == [(5.0, 30.0), (16.0, 0.0)]


def test_the_last_commands_of_a_run_that_was_ended_get_a_grace_of_time() -> None:
    world = office(entry("on_worker_complete"), programs={1: Program(NEVER, saves=2.0)}).until(5.0)
    world.signal(SIGTERM)
    world.until(36.9)
    assert [at for at, _ in world.asked("run_commands")] == [7.0]
    assert world.asked("end_commands") == []
    world.until(40.0)
    assert [(at, body["grace"]) for at, body in world.asked("end_commands")] == [(37.0, LAST_GRACE)]
    world.answer("run_commands", ok=False, ended=True)
    world.finish()


def test_the_last_commands_are_over_before_the_end_of_the_allocation() -> None:
    """They have the headroom, in which no job runs any more."""
    execution = ExecutionConfig(sigkill_headroom_seconds=60.0)
    world = office(
        entry("on_worker_complete"),
        end=1000.0,
        execution=execution,
        programs={1: Program(NEVER, saves=5.0)},
    )
    world.until(980.0)
    assert [at for at, _ in world.asked("run_commands")] == [915.0], "asked at end - headroom - lead"
    assert [(at, body["grace"]) for at, body in world.asked("end_commands")] == [(980.0, LAST_GRACE)]
    world.answer("run_commands", ok=False, ended=True)
    world.finish()


def test_an_interrupt_ends_the_last_commands_of_a_run_whose_jobs_are_done() -> None:
    world = office(entry("on_workflow_complete")).until(20.0)
    world.signal(SIGINT)
    assert [(at, body["grace"]) for at, body in world.asked("end_commands")] == [(20.0, LAST_GRACE)]
    world.answer("run_commands", ok=False, ended=True)
    world.finish()


def test_after_a_second_interrupt_nothing_begins_any_more() -> None:
    world = office(entry("on_worker_complete"), programs={1: Program(NEVER, saves=500.0)}).until(5.0)
    world.signal(SIGINT)
    world.until(6.0)
    world.signal(SIGINT)
    world.finish()
    assert world.asked("run_commands") == []


def test_p12_a_keeper_that_says_nothing_is_not_waited_for_without_end() -> None:
    world = office(entry("on_jobs_ready", 1), programs={1: Program(NEVER, saves=0.0)}).until(5.0)
    world.signal(SIGTERM)
    world.finish(within=30.0 + UNKILLABLE_AFTER + ANSWER_WITHIN)
    assert world.warnings() == ["action_failed"]


# -- schedule_nodes -------------------------------------------------------------------------------------------------


def in_allocation(*entries: dict[str, Any], jobs: int = 2, **fields: Any) -> Office:
    allocations = NextAllocation(BatchPlace("/out", 1), "7", "small")
    made = [job(number, depends_on=() if number == 1 else (1,)) for number in range(1, jobs + 1)]
    return Office(
        *made, errands=[Actions(PLACE, allocations), allocations], extra={"actions": list(entries)}, **fields
    )


QUEUED = {
    "slurm_job_id": "8",
    "scheduler": "s",
    "script": "/s.sh",
    "output": "/o",
    "error": "/e",
    "auto_resubmit": 0,
}


def test_nodes_are_scheduled_behind_this_allocation() -> None:
    world = in_allocation(entry("on_jobs_ready", 2, kind="schedule_nodes")).until(5.0)
    assert world.asked("submit") == []
    world.until(12.0)
    ((at, body),) = world.asked("submit")
    assert at == 10.0
    assert (body["scheduler"], body["after"], body["auto_resubmit"]) == ("s", "7", 0)
    assert body["within"] > 0
    world.answer("submit", **QUEUED)
    (record,) = world.of(r.AllocationSubmitted)
    assert (record.slurm_job_id, record.why, record.after, record.scheduler) == ("8", "action", "7", "s")
    assert world.finish().taken() == [(0, True)]


def test_one_allocation_at_a_time_is_queued() -> None:
    world = in_allocation(
        entry("on_jobs_ready", 2, kind="schedule_nodes"),
        entry("on_jobs_complete", 1, kind="schedule_nodes"),
        entry("on_jobs_complete", 2, kind="schedule_nodes"),
        jobs=3,
        programs={3: Program(100.0)},
    ).until(12.0)
    assert len(world.asked("submit")) == 1
    world.answer("submit", **QUEUED)
    world.until(50.0)
    assert len(world.asked("submit")) == 1
    assert world.taken() == [(0, True), (1, True), (2, True)]


def test_nobody_queues_allocations_for_a_run_that_does_everything_itself() -> None:
    """Nor is it forgotten: a run in an allocation takes it."""
    entries = [
        entry("on_workflow_start", kind="schedule_nodes"),
        entry("on_jobs_complete", 1, kind="schedule_nodes"),
    ]
    world = office(*entries, jobs=2).finish()
    assert world.asked("submit") == []
    assert world.taken() == [(1, False)]
    assert world.warnings() == []


def test_nodes_for_nothing_are_not_scheduled() -> None:
    world = in_allocation(entry("on_workflow_complete", kind="schedule_nodes"), jobs=1).finish()
    assert world.asked("submit") == []
    assert world.taken() == [(0, False)]


@pytest.mark.parametrize("answer", [{"ok": False, "message": "sbatch refused"}, {"ok": False, "lost": True}])
def test_what_slurm_refuses_is_a_warning(answer: dict[str, Any]) -> None:
    world = in_allocation(entry("on_jobs_ready", 2, kind="schedule_nodes")).until(12.0)
    world.answer("submit", **answer)
    world.finish()
    assert world.warnings() == ["action_failed"]
    assert world.taken() == [(0, False)]
    assert world.status(2) is Status.COMPLETED
