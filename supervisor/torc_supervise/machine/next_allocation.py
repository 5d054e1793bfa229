"""The next allocation: queued by the supervisor in this one, to begin when this one is over.

One at a time: whoever asks while one is queued, or being queued, is told of that one.  sbatch is a chore, done once;
the keeper tries it again while slurmctld does not answer, for as long as there is time.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.phases import NEVER

TRY_FOR = 120.0
"""Seconds in which slurmctld has to answer where nobody knows when the allocation ends."""

RESERVE = 2.0
"""Seconds before the end that are for recording what became of it."""

Told = Callable[[Desk, bool, str], None]
"""Whether an allocation is queued now, and in words."""


class BatchPlace(Struct, frozen=True):
    """What the next supervisor is told as this one was.  ``output``: absolute path of the output directory."""

    output: str
    workflow_id: int
    max_parallel_jobs: int | None = None


class _Request(Struct):
    chore_id: int
    why: str
    give_up_at: float
    told: list[Told] = []


class NextAllocation(Errand):
    """Asks for allocations on behalf of other errands.

    Args:
        slurm_job_id: this allocation.
        scheduler: the ``slurm_schedulers`` entry that it was asked for by; what its successor gets by default.
        auto_resubmit: how many further allocations may be queued without being asked for.
    """

    def __init__(
        self, place: BatchPlace, slurm_job_id: str, scheduler: str | None, auto_resubmit: int = 0
    ) -> None:
        self.slurm_job_id = slurm_job_id
        self.scheduler = scheduler
        self.auto_resubmit = auto_resubmit
        self.unwanted = False  # what was queued without being asked for is not to follow after all
        self._place = place
        self._request: _Request | None = None
        self._unheard: dict[int, str] = {}  # chores that were given up -> why they were asked for

    @property
    def how_to_go_on(self) -> str:
        return f"to go on by hand: torc-supervise submit {self._place.workflow_id}"

    def queued(self, desk: Desk, why: str | None = None) -> list[str]:
        """Ids of the allocations in Slurm's queue, as far as the journal knows; all, or those of one reason."""
        return [
            found.slurm_job_id
            for found in desk.state.allocations.queued
            if found.slurm_job_id != self.slurm_job_id
            and (why is None or (found.submitted is not None and found.submitted.why == why))
        ]

    def ask(
        self, desk: Desk, scheduler: str | None, why: str, told: Told, max_parallel_jobs: int | None = None
    ) -> None:
        """Queue one allocation, unless one is queued.

        Args:
            scheduler, max_parallel_jobs: None for what this allocation has.
            why: ``action`` or ``auto_resubmit``, of which the latter uses one of those up.
            told: called once, now or later.
        """
        if self._request is not None:
            self._request.told.append(told)
            return
        queued = self.queued(desk)
        if queued:
            told(desk, True, f"allocation {queued[0]} is queued already")
            return
        within = max(0.0, self._last_moment(desk) - desk.now)
        body: Answer = {
            "output": self._place.output,
            "workflow_id": self._place.workflow_id,
            "scheduler": scheduler or self.scheduler,
            "after": self.slurm_job_id,
            "auto_resubmit": max(0, self.auto_resubmit - (why == "auto_resubmit")),
            "max_parallel_jobs": max_parallel_jobs or self._place.max_parallel_jobs,
            "within": round(within, 3),
        }
        chore_id = desk.do(self, "submit", body, once=True)
        self._request = _Request(chore_id, why, self._last_moment(desk), [told])
        self._update()

    def on_tick(self, desk: Desk) -> None:
        request = self._request
        if request is None:
            return
        request.give_up_at = min(request.give_up_at, self._last_moment(desk))
        if desk.now >= request.give_up_at:
            self._unheard[request.chore_id] = request.why
            self._tell(desk, False, "Slurm did not answer in time")
        self._update()

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        why = self._unheard.pop(chore_id, None)
        late = why is not None
        if self._request is not None and self._request.chore_id == chore_id:
            why = self._request.why
        if why is None:
            return
        if answer.get("ok"):
            message = self._note(desk, why, answer)
        elif answer.get("lost"):
            message = (
                "the keeper died over it; the next 'torc-supervise submit' finds out whether it was queued"
            )
        else:
            message = str(answer.get("message"))
        if not late:
            self._tell(desk, bool(answer.get("ok")), message)
        self._update()

    def _note(self, desk: Desk, why: str, answer: Answer) -> str:
        slurm_job_id = answer["slurm_job_id"]
        left = answer.get("auto_resubmit")
        desk.write(
            r.AllocationSubmitted(
                slurm_job_id,
                why,
                answer.get("scheduler"),
                answer.get("script"),
                answer.get("output"),
                answer.get("error"),
                self.slurm_job_id,
                left,
                answer.get("cluster"),
            )
        )
        self.auto_resubmit = left if left is not None else self.auto_resubmit
        more = f" ({left} more may follow)" if why == "auto_resubmit" and left else ""
        message = f"allocation {slurm_job_id} is queued; it begins when this one ({self.slurm_job_id}) is over{more}"
        desk.say(message)
        return message

    def _tell(self, desk: Desk, ok: bool, message: str) -> None:
        request, self._request = self._request, None
        assert request is not None
        for told in request.told:
            told(desk, ok, message)

    @staticmethod
    def _last_moment(desk: Desk) -> float:
        return desk.wall.end - RESERVE if desk.wall.known else desk.now + TRY_FOR

    def _update(self) -> None:
        self.busy = self._request is not None
        self.next_deadline = NEVER if self._request is None else self._request.give_up_at
