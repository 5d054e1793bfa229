"""The end watch: knows when the allocation ends, follows it where it moves, and asks Slurm what a signal means.

The supervisor acts on a signal at once; what Slurm answers only ever shortens a grace that has begun (P6).  Its end is
turned into monotonic seconds once.  After that only differences count: between the ends that Slurm tells, and of the
time that the host was suspended.  So a wall clock that is set back or forth moves nothing (P13).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from torc_supervise.machine import deadlines
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.orders import seconds_text
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.result import signal_name
from torc_supervise.workflow.signals import SignalSpec

ASK_EVERY = 600.0
"""Seconds between two questions to slurmctld while nothing happens: administrators count them."""

ASK_BEFORE = 60.0
"""Seconds before the first job would be asked to end: a last question, so that no end is missed that was moved."""

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds between two questions while slurmctld does not answer; the pause doubles."""

ANSWER_WITHIN = 5.0
"""Seconds after a signal in which an answer is waited for; then the signal is judged without one."""

EARLY = 60.0 + 5.0
"""Seconds that Slurm may send its warning before the time that was asked for; and a few for clocks."""

ROUNDING = 1.5
"""Seconds.  Two ends that are not further apart are the same."""

USUAL_KILL_WAIT = 30.0
"""Seconds between Slurm's SIGTERM and its SIGKILL where it does not say."""


class KnownEnd(Struct, frozen=True):
    """When Slurm ends the job: seconds since 1970, the same on the monotonic clock, and how far CLOCK_BOOTTIME was
    ahead of the latter at that moment (it grows by the time that the host is suspended)."""

    epoch: float
    mono: float
    boot_offset: float = 0.0


class EndWatch(Errand):
    """One Slurm job.

    Args:
        end: as it was found out at the start; None where it was not, or there is none.
        begun: monotonic seconds, when the run began.
        limit: monotonic seconds, the end by ``--time-limit``; the earlier one counts.
        epoch_ahead: seconds since 1970 minus monotonic seconds.
        iso: epoch seconds -> UTC text for the journal.
        warned_by: the ``--signal`` that Slurm was asked for, if that is known.
        asked: Slurm said just now that the job runs; ``kill_wait`` is what it said of that, seconds.
    """

    def __init__(
        self,
        job_id: str,
        end: KnownEnd | None,
        *,
        begun: float,
        epoch_ahead: float,
        iso: Callable[[float], str],
        limit: float = NEVER,
        warned_by: SignalSpec | None = None,
        asked: bool = False,
        kill_wait: float | None = None,
    ) -> None:
        self._job_id = job_id
        self._end = end
        self._begun, self._epoch_ahead, self._iso = begun, epoch_ahead, iso
        self._limit = limit
        self._warned_by = warned_by
        self._kill_wait = kill_wait
        self._question: int | None = None  # number of the chore that is not answered yet
        self._again = False  # something happened since it was asked
        self._failures = 0
        self._ask_at = NEVER
        self._signal: tuple[str, float] | None = None  # the first one that nobody has judged yet
        self._judge_at = NEVER
        self._seen = asked  # Slurm said that the job runs
        self._over = False  # Slurm said that it is being ended

    @property
    def next_deadline(self) -> float:  # type: ignore[override]
        return min(self._ask_at, self._judge_at)

    # -- asking -----------------------------------------------------------------------------------------------

    def on_begin(self, desk: Desk) -> None:
        if self._seen:
            self._ask_at = self._next_ask(desk)
        else:
            self._ask(desk)

    def on_tick(self, desk: Desk) -> None:
        if desk.now >= self._judge_at:
            self._guess(desk)
        if desk.now >= self._ask_at:
            self._ask(desk)

    def on_signal(self, desk: Desk, signum: int) -> None:
        if self._over:
            return
        if self._signal is None:
            self._signal, self._judge_at = (signal_name(signum), desk.now), desk.now + ANSWER_WITHIN
        self._ask(desk)

    def _ask(self, desk: Desk) -> None:
        """One question at a time; an answer to one that was asked before a signal says nothing about the signal."""
        self._ask_at = NEVER
        if self._question is not None:
            self._again = True
            return
        body: Answer = {"job_id": self._job_id, "kill_wait": self._kill_wait is None}
        self._question = desk.do(self, "ask_slurm", body)

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        self._question = None
        again, self._again = self._again, False
        if answer.get("kill_wait") is not None:
            self._kill_wait = answer["kill_wait"]
        if not answer.get("ok"):
            self._no_answer(desk, str(answer.get("message", "")))
            return
        if self._failures:
            self._failures = 0
            desk.say("Slurm answers again")
        self._epoch_ahead = answer["epoch"] - answer["mono"]
        self._ask_at = self._next_ask(desk)
        if again:
            self._ask(desk)
        if answer["running"]:
            self._seen = True
            self._follow(desk, answer)
            if not again:
                self._signal, self._judge_at = None, NEVER  # it was a warning, or somebody's own signal
        elif self._signal is not None or self._seen:
            self._being_ended(desk, str(answer.get("state") or "gone"))
        else:
            self._not_ours(desk)

    def _no_answer(self, desk: Desk, message: str) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._ask_at = desk.now + pause
        if self._failures == 1:
            known = "" if desk.wall.known else "; until it does, the end of the allocation is not known"
            desk.warn("slurm_unreachable", f"Slurm does not answer, it is asked again{known} ({message})")

    def _next_ask(self, desk: Desk) -> float:
        """Now and then, and a last time before the first job would be asked: half-way where the run is so short."""
        wall = desk.wall
        first = wall.kill_at - self._longest(desk) * wall.grace_scale
        last = first - min(ASK_BEFORE, (first - self._begun) / 2) if wall.known else NEVER
        often = desk.now + ASK_EVERY
        return min(often, last) if last > desk.now else often

    # -- what follows -----------------------------------------------------------------------------------------

    def _follow(self, desk: Desk, answer: Answer) -> None:
        """Slurm's end may be another one than it was."""
        epoch, offset, before = answer["end"], answer["boot_offset"], self._end
        if epoch is None:
            self._end = None
        elif before is None:
            self._end = KnownEnd(epoch, answer["mono"] + (epoch - answer["epoch"]), offset)
        else:
            moved = epoch - before.epoch
            suspended = offset - before.boot_offset
            self._end = KnownEnd(epoch, before.mono + moved - suspended, offset)
        self._move(desk, min(self._limit, self._end.mono if self._end is not None else NEVER))

    def _move(self, desk: Desk, end: float) -> None:
        before = desk.wall.end
        if end == before or abs(end - before) <= ROUNDING:
            return
        headroom, longest = desk.state.workflow.execution.sigkill_headroom_seconds, self._longest(desk)
        wall = deadlines.refit(self._begun, desk.now, desk.wall, end, headroom, longest)
        self._change(desk, wall)
        if not wall.known:
            desk.say("the allocation has no end any more")
            return
        left = (
            f"the allocation ends at {self._iso(end + self._epoch_ahead)}, in {seconds_text(end - desk.now)}"
        )
        if before < NEVER:
            left += (
                f": {seconds_text(abs(end - before))} {'later' if end > before else 'earlier'} than before"
            )
        desk.say(left)
        if wall.headroom < headroom or wall.grace_scale < 1.0:
            desk.say(f"warning: {deadlines.shortened_text(wall, end - desk.now, headroom, longest)}")

    def _change(self, desk: Desk, wall: WallTime) -> None:
        end_time = self._iso(wall.end + self._epoch_ahead) if wall.known else None
        desk.write(r.EndChanged(desk.state.run_id, end_time))
        desk.move_end(wall)

    def _being_ended(self, desk: Desk, state: str) -> None:
        """Slurm kills what is left KillWait seconds after its signal; by then every result is to be on disk."""
        self._over, self._ask_at, self._judge_at = True, NEVER, NEVER
        self._hurry(desk, f"Slurm is ending the job ({state.lower()})")

    def _hurry(self, desk: Desk, what: str) -> None:
        wait = self._kill_wait if self._kill_wait is not None else USUAL_KILL_WAIT
        signaled = self._signal[1] if self._signal is not None else desk.now
        self._signal = None
        end = signaled + wait
        if end >= desk.wall.end:
            return
        wall = WallTime(end, margin(wait), desk.wall.grace_scale)
        self._change(desk, wall)
        if not desk.nothing_runs:
            desk.say(f"{what}: jobs have up to {seconds_text(max(0.0, wall.kill_at - desk.now))}")

    def _guess(self, desk: Desk) -> None:
        """Nobody says what the signal means.  A SIGTERM is Slurm's last word, unless it may be the warning."""
        self._judge_at = NEVER
        assert self._signal is not None
        name, at = self._signal
        if name == "SIGTERM" and not self._may_be_the_warning(at):
            self._hurry(desk, "Slurm does not answer, and SIGTERM may mean that it is ending the job")
        self._signal = None

    def _may_be_the_warning(self, at: float) -> bool:
        spec, end = self._warned_by, self._end
        if spec is None or end is None or spec.signal != "SIGTERM":
            return False
        return end.mono - spec.seconds - EARLY <= at < end.mono - ROUNDING

    def _not_ours(self, desk: Desk) -> None:
        """Slurm's variables are those of a job that is over: a shell inherited them.  There is no allocation."""
        self._ask_at = NEVER
        desk.warn(
            "no_allocation",
            f"SLURM_JOB_ID is {self._job_id}, but Slurm has no such job running: this run is in no allocation",
        )
        self._end = None
        self._move(desk, self._limit)

    @staticmethod
    def _longest(desk: Desk) -> float:
        return deadlines.longest_grace(desk.state.workflow)


def margin(kill_wait: float) -> float:
    """Seconds before Slurm's SIGKILL at which ours goes out: what recording the results may take."""
    return min(max(2.5, kill_wait / 4), kill_wait / 2, 15.0)
