"""Step check: nothing may be left on other nodes of a job whose leader here could not see to it.

Where a step was lost, or its leader did not end in time, Slurm is asked once for the steps of all such jobs, and
cancels what is there: one squeue and one scancel, however many they are.
"""

from __future__ import annotations

from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.status import Ended

GATHER = 2.0
"""Seconds in which further jobs of this kind are waited for."""

ANSWER_WITHIN = 10.0
"""Seconds that the end of a run waits for the last check; when the batch job is over, Slurm ends all steps itself."""


class StepCheck(Errand):
    """Has ``end_steps`` done for attempts that nobody saw end."""

    interests = (r.JobEnded,)

    def __init__(self, slurm_job_id: str) -> None:
        self._slurm_job_id = slurm_job_id
        self._names: list[str] = []
        self._check_at = NEVER
        self._give_up_at = NEVER

    def on_record(self, desk: Desk, record: r.Record) -> None:
        assert isinstance(record, r.JobEnded)
        if record.ended not in (Ended.LOST, Ended.UNKILLABLE):
            return
        state = desk.state
        self._names.append(step_name(state.workflow_id, record.job_id, record.run_id, record.attempt_id))
        self._check_at = min(self._check_at, desk.now + GATHER)
        self._plan()

    def on_tick(self, desk: Desk) -> None:
        if desk.now >= self._check_at:
            self._check(desk)
        if desk.now >= self._give_up_at:
            self._give_up_at = NEVER
        self._plan()

    def on_idle(self, desk: Desk) -> None:
        if self._names:
            self._check(desk)
            self._give_up_at = desk.now + ANSWER_WITHIN
        self._plan()

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        self._give_up_at = NEVER
        self._plan()
        if answer.get("ended"):
            desk.say(f"job steps that were left of jobs are canceled: {', '.join(answer['ended'])}")
        elif not answer["ok"]:
            desk.warn(
                "steps_not_checked", f"nobody knows whether job steps are left: {answer.get('message')}"
            )

    def _check(self, desk: Desk) -> None:
        desk.do(self, "end_steps", {"job_id": self._slurm_job_id, "names": self._names})
        self._names, self._check_at = [], NEVER

    def _plan(self) -> None:
        self.busy = self._give_up_at < NEVER
        self.next_deadline = min(self._check_at, self._give_up_at)


def step_name(workflow_id: int, job_id: int, run_id: int, attempt_id: int) -> str:
    """What squeue shows of a job's step: "wf7_j3_r1_a1"."""
    return f"wf{workflow_id}_j{job_id}_r{run_id}_a{attempt_id}"
