"""Unneeded: allocations that wait in Slurm's queue for a workflow of which nothing is left to run."""

from __future__ import annotations

from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.next_allocation import RESERVE, NextAllocation
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.triggers import everything_settled

ANSWER_WITHIN = 30.0
"""Seconds that the end of a run waits for Slurm, where there is that much time."""


class Unneeded(Errand):
    """Cancels them when the run ends.  One that slurmctld does not hear of begins, finds nothing to do, and ends."""

    def __init__(self, allocations: NextAllocation) -> None:
        self._allocations = allocations
        self._idle = False
        self._chore: int | None = None
        self._canceling: list[str] = []

    def on_idle(self, desk: Desk) -> None:
        self._idle = True
        self._cancel(desk)

    def on_tick(self, desk: Desk) -> None:
        if self.busy and desk.now >= self.next_deadline:
            self._over(desk, {"ok": False, "message": "Slurm does not answer"})
        elif self._idle and self._chore is None:  # one may have been queued while the run ended
            self._cancel(desk)

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        if self.busy and chore_id == self._chore:
            self._over(desk, answer)

    def _cancel(self, desk: Desk) -> None:
        self._canceling = self._unneeded(desk)
        if not self._canceling:
            return
        within = min(ANSWER_WITHIN, max(0.0, desk.wall.end - RESERVE - desk.now))
        body: Answer = {"job_ids": self._canceling, "within": round(within, 3)}
        self._chore = desk.do(self, "scancel", body)
        self.busy, self.next_deadline = True, desk.now + within

    def _unneeded(self, desk: Desk) -> list[str]:
        if everything_settled(desk.state):
            return self._allocations.queued(desk)
        if self._allocations.unwanted:
            return self._allocations.queued(desk, why="auto_resubmit")
        return []

    def _over(self, desk: Desk, answer: Answer) -> None:
        self.busy, self.next_deadline = False, NEVER
        listed = ", ".join(self._canceling)
        noun = "allocation" if len(self._canceling) == 1 else "allocations"
        why = "nothing is left to do" if everything_settled(desk.state) else "this one was ended by hand"
        if answer.get("ok"):
            for slurm_job_id in self._canceling:
                desk.write(r.AllocationEnded(slurm_job_id, "canceled", why))
            desk.say(f"canceled queued {noun} {listed}: {why}")
        else:
            message = f"queued {noun} {listed} could not be canceled: {answer.get('message')}"
            desk.warn("still_queued", f"{message}; once begun, nothing is found to do and it ends by itself")
