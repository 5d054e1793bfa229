"""The chain: allocations that follow each other by themselves (``--auto-resubmit N``).

The next one is queued when this one was ended by its wall time, work is left, and this run made progress: a job
completed, or saved its checkpoint.  Without that the chain would compute the same hours again and again, so it stops
and says so.  Whoever ends an allocation by hand wants it to end: then nothing follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.next_allocation import RESERVE, NextAllocation
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.result import signal_name
from torc_supervise.machine.status import Status, StopReason
from torc_supervise.machine.triggers import COMPLETE
from torc_supervise.workflow.model import Job
from torc_supervise.workflow.signals import SignalSpec

EARLY = 65.0
"""Seconds that Slurm's warning may come before the time that was asked for: 60, and a few for clocks."""

ROUNDING = 2.0
"""Seconds before the known end at which a signal is the time limit's own."""

ASK_AGAIN_AFTER = 5.0
"""Seconds between two questions to a slurmctld that does not answer."""

ANSWER_WITHIN = 30.0
"""Seconds that the end of a run waits for an answer where nobody knows when the allocation ends."""


class Chain(Errand):
    """Decides, once, whether the next allocation is queued.

    Args:
        warned_by: the ``--signal`` that Slurm was asked for, if any.
        runs_here: whether a job may run in an allocation like this one.
    """

    interests = (r.JobEnded,)

    def __init__(
        self,
        allocations: NextAllocation,
        warned_by: SignalSpec | None = None,
        runs_here: Callable[[Job], bool] = lambda job: True,
    ) -> None:
        self._allocations = allocations
        self._warned_by = warned_by
        self._runs_here = runs_here
        self._decided = allocations.auto_resubmit <= 0
        self._asked = False
        self._progress = False
        self._idle = False
        self._checkpoints: dict[str, str] = {}  # job id as text, as JSON has it -> path
        self._before: Any = None  # what the first look saw
        self._looks: list[int] = []  # chores: the first look, the second
        self._question: int | None = None  # chore: whether the job was running when a signal came
        self._end: float | None = None  # as it was known at the first signal
        self._by_hand: str | None = None  # the signal that was nobody's but a person's
        self._ask_at = NEVER
        self._give_up_at = NEVER

    # -- what happens -----------------------------------------------------------------------------------------

    def on_begin(self, desk: Desk) -> None:
        if self._decided:
            return
        state = desk.state
        self._checkpoints = {
            str(job.job_id): job.checkpoint
            for job in state.workflow.jobs
            if job.checkpoint is not None and state.status[job.job_id] not in COMPLETE
        }
        self._look(desk)

    def on_record(self, desk: Desk, record: r.Record) -> None:
        assert isinstance(record, r.JobEnded)
        if record.status == Status.COMPLETED or record.checkpoint_saved:
            self._progress = True
            self._consider(desk)

    def on_ending(self, desk: Desk) -> None:
        if desk.ending is not None and desk.ending.why is not StopReason.SIGNAL:  # else see on_signal
            self._consider(desk)

    def on_signal(self, desk: Desk, signum: int) -> None:
        """Every one counts: after Slurm's warning somebody may still cancel the allocation."""
        if self._decided and not self._asked:
            return
        if self._end is None:
            self._end = desk.wall.end
        name = signal_name(signum)
        of_wall_time = self._judge(name, desk.now, self._end)
        if of_wall_time is None:
            self._ask(desk)
        elif not of_wall_time:
            self._by_hand = self._by_hand or name
        self._consider(desk)

    def on_idle(self, desk: Desk) -> None:
        self._idle = True
        self._give_up_at = desk.wall.end - RESERVE if desk.wall.known else desk.now + ANSWER_WITHIN
        self._consider(desk)

    def on_tick(self, desk: Desk) -> None:
        if desk.now >= self._ask_at:
            self._ask(desk)
        self._give_up_at = min(self._give_up_at, desk.wall.end - RESERVE)
        if self.busy and desk.now >= self._give_up_at:
            self._question, self._ask_at = None, NEVER
            if not self._decided:
                self._decided = True
                why = "nobody could say in time whether a checkpoint was saved"
                if self._end is not None:
                    why = "Slurm does not say what the signal meant"
                desk.warn("not_resubmitted", self._stops(why))
        self._update()

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        if chore_id == self._question:
            self._question = None
            if not answer.get("ok"):
                self._ask_at = desk.now + ASK_AGAIN_AFTER
            elif not answer["running"] and desk.now < (self._end or NEVER) - ROUNDING:
                self._by_hand = self._by_hand or "the signal"
        elif chore_id in self._looks and answer.get("ok"):
            if chore_id == self._looks[0]:
                self._before = answer["seen"]
            else:
                self._progress = self._progress or answer["seen"] != self._before
        if chore_id in self._looks[1:]:
            self._checkpoints = {}  # nothing more to look at
        self._consider(desk)

    # -- deciding ---------------------------------------------------------------------------------------------

    def _consider(self, desk: Desk) -> None:
        ended_by_time = self._ended_by_time(desk)
        if self._asked:
            self._allocations.unwanted = ended_by_time is False
        if not self._decided and ended_by_time is not None:
            if not ended_by_time:
                if self._idle and self._work_left(desk):
                    self._decided = True
                    self._say_how_to_go_on(desk)
            elif self._work_left(desk):
                self._continue(desk)
        self._update()

    def _continue(self, desk: Desk) -> None:
        if self._progress:
            self._decided = self._asked = True
            self._allocations.ask(desk, None, "auto_resubmit", self._told)
        elif self._idle and self._checkpoints and self._before is not None:
            if len(self._looks) == 1:
                self._look(desk)
        elif self._idle:
            self._decided = True
            why = "in this allocation no job completed and no checkpoint was saved"
            desk.warn("no_progress", self._stops(why))

    def _ended_by_time(self, desk: Desk) -> bool | None:
        """None: it has not ended, or nobody knows yet what a signal meant."""
        ending = desk.ending
        if desk.state.canceled or self._by_hand is not None or (ending is not None and ending.hurried):
            return False
        if self._question is not None or self._ask_at < NEVER:
            return None
        if ending is not None:
            return ending.why in (StopReason.WALL_TIME, StopReason.SIGNAL)
        # What is ready did not fit into what was left of the allocation.
        return (desk.wall.known and desk.state.counts[Status.READY] > 0) if self._idle else None

    def _judge(self, name: str, at: float, end: float) -> bool | None:
        """Whether a signal is the wall time's; None: only Slurm can tell."""
        if name == "SIGINT":
            return False
        if end < NEVER and at >= end - ROUNDING:
            return True  # Slurm's own, at the limit
        spec = self._warned_by
        if spec is None or spec.signal != name:
            return False
        return None if end == NEVER or at >= end - spec.seconds - EARLY else False

    def _ask(self, desk: Desk) -> None:
        """A warning comes to a job that runs; one that is canceled or preempted does not run any more."""
        self._ask_at = NEVER
        body: Answer = {"job_id": self._allocations.slurm_job_id, "kill_wait": False}
        self._question = desk.do(self, "ask_slurm", body)

    def _look(self, desk: Desk) -> None:
        if self._checkpoints:
            self._looks.append(desk.do(self, "look_at_files", {"paths": self._checkpoints}))

    def _work_left(self, desk: Desk) -> bool:
        state = desk.state
        return any(state.status[j.job_id] not in COMPLETE and self._runs_here(j) for j in state.workflow.jobs)

    def _told(self, desk: Desk, ok: bool, message: str) -> None:
        if not ok:
            desk.warn("not_resubmitted", self._stops(message))

    def _stops(self, why: str) -> str:
        return f"auto-resubmit stops: {why}; {self._allocations.how_to_go_on}"

    def _say_how_to_go_on(self, desk: Desk) -> None:
        if self._by_hand is not None and not desk.state.canceled:
            desk.say(
                f"{self._by_hand} was not the end of the wall time: nothing is queued after this allocation"
            )

    def _update(self) -> None:
        looks = len(self._looks) > 1 and bool(self._checkpoints) and not self._decided
        self.busy = self._idle and (self._question is not None or self._ask_at < NEVER or looks)
        self.next_deadline = min(self._ask_at, self._give_up_at if self.busy else NEVER)
