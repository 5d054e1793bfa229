"""What nobody saw end is looked for through Slurm, once for many jobs, and holds no run up for long."""

from __future__ import annotations

from typing import Any

from support.replaying import World, job, state_of
from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Errand
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.step_check import ANSWER_WITHIN, GATHER, StepCheck


class Desk:
    """The run, as far as this errand looks at it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.state: WorkflowState = state_of(job(1), job(2))
        self.asked: list[tuple[str, Any]] = []
        self.said: list[str] = []

    def do(self, errand: Errand, kind: str, body: Answer, *, once: bool = False) -> int:
        self.asked.append((kind, body))
        return len(self.asked)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, code: str, message: str) -> None:
        self.said.append(code)


def ended(job_id: int, how: str) -> r.JobEnded:
    return r.JobEnded(1, job_id, 1, "terminated", how)


def test_lost_and_unkillable_jobs_are_asked_about_together() -> None:
    desk, check = Desk(), StepCheck("77")
    for how in ("exited", "killed", "in_grace", "not_started"):
        check.on_record(desk, ended(1, how))  # type: ignore[arg-type]
    assert check.next_deadline == NEVER
    check.on_record(desk, ended(1, "lost"))  # type: ignore[arg-type]
    desk.now += 1
    check.on_record(desk, ended(2, "unkillable"))  # type: ignore[arg-type]
    assert check.next_deadline == 100.0 + GATHER
    check.on_tick(desk)  # type: ignore[arg-type]
    assert not desk.asked
    desk.now = 100.0 + GATHER
    check.on_tick(desk)  # type: ignore[arg-type]
    assert desk.asked == [("end_steps", {"job_id": "77", "names": ["wf1_j1_r1_a1", "wf1_j2_r1_a1"]})]
    assert check.next_deadline == NEVER
    check.on_chore_done(desk, 1, {"ok": True, "ended": ["wf1_j1_r1_a1"]})  # type: ignore[arg-type]
    assert desk.said == ["job steps that were left of jobs are canceled: wf1_j1_r1_a1"]
    check.on_idle(desk)  # type: ignore[arg-type]
    assert not check.busy


def test_the_end_of_a_run_waits_for_the_last_check_but_not_for_ever() -> None:
    desk, check = Desk(), StepCheck("77")
    check.on_record(desk, ended(1, "lost"))  # type: ignore[arg-type]
    check.on_idle(desk)  # type: ignore[arg-type]
    assert len(desk.asked) == 1
    assert check.busy
    desk.now = check.next_deadline
    assert desk.now == 100.0 + ANSWER_WITHIN
    check.on_tick(desk)  # type: ignore[arg-type]
    assert not check.busy
    check.on_chore_done(desk, 1, {"ok": False, "message": "no controller"})  # type: ignore[arg-type]
    assert desk.said == ["steps_not_checked"]


def test_a_run_of_jobs_that_all_end_asks_slurm_nothing() -> None:
    world = World(job(1), job(2), errands=[StepCheck("77")])
    world.finish()
    assert world.supervision.done
