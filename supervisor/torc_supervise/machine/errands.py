"""Errands: what a run has to see to besides its jobs: the end of its allocation, actions, the next allocation.

An errand is pure, as everything here: it is told what happened and asks for *chores*, slow things that the keeper does
in a thread of its own (asking Slurm, running commands).  What a chore came to is told to the errand that asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.orders import Do, Ending
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import StopReason

Answer = dict[str, Any]
"""What a chore came to: ``ok`` and, by its kind, more.  ``lost``: the keeper died over a chore that is done once."""


class Desk(Protocol):
    """What an errand may ask of the run."""

    @property
    def state(self) -> WorkflowState: ...

    @property
    def ending(self) -> Ending | None: ...

    @property
    def now(self) -> float:
        """Monotonic seconds."""

    @property
    def wall(self) -> WallTime: ...

    @property
    def nothing_runs(self) -> bool:
        """No attempt is under way that anybody waits for."""

    def write(self, record: r.Record) -> None: ...

    def say(self, text: str) -> None: ...

    def warn(self, code: str, message: str) -> None: ...

    def move_end(self, wall: WallTime) -> None:
        """The end of the allocation is another one: earlier, later, or none.

        Jobs that were not asked yet get their deadlines anew; of a grace that has begun, no more than what it had (P6).
        """

    def end_run(self, why: StopReason, what: str) -> None:
        """Begin to end the run, unless that was begun."""

    def do(self, errand: Errand, kind: str, body: Answer, *, once: bool = False) -> int:
        """Ask for a chore.

        Args:
            kind: one of ``helpers.chores.KINDS``.
            body: JSON-ready, what it needs to know.
            once: not to be done a second time if the keeper dies over it; its answer is ``lost`` then.

        Returns:
            its number, which comes back with the answer.
        """


class Errand:
    """Does nothing; errands override what they care about.  Every call comes with the desk's clock set."""

    next_deadline: float = NEVER
    """Monotonic seconds at which :meth:`on_tick` has something to do."""

    busy: bool = False
    """The run must not end yet.  Whoever says so sees to it that it becomes false in bounded time (P12)."""

    holds_starts: bool = False
    """No job may start yet."""

    interests: tuple[type[r.Record], ...] = ()
    """Types of records that :meth:`on_record` is called with."""

    def on_begin(self, desk: Desk) -> None:
        """The run has begun: ``run_started`` is written."""

    def on_tick(self, desk: Desk) -> None:
        """A turn of the loop; the clock may have passed :attr:`next_deadline`."""

    def on_signal(self, desk: Desk, signum: int) -> None:
        """The supervisor was signalled; what that means for the jobs has been decided already."""

    def on_record(self, desk: Desk, record: r.Record) -> None:
        """A record was written and folded."""

    def on_ending(self, desk: Desk) -> None:
        """The run begins to end, or is in more of a hurry than before: see ``desk.ending``."""

    def on_idle(self, desk: Desk) -> None:
        """Nothing runs and nothing more will start; called once, before ``run_ended`` is written."""

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        """A chore of this errand was done, or given up."""


class Errands:
    """All errands of a run, and whose chore is whose."""

    def __init__(self, errands: Sequence[Errand]) -> None:
        self.errands = errands
        self.closed = not errands
        self._last_chore = 0
        self._asked_by: dict[int, Errand] = {}
        self._listeners: dict[type[r.Record], list[Errand]] = {}
        for errand in errands:
            for interest in errand.interests:
                self._listeners.setdefault(interest, []).append(errand)

    def chore(self, errand: Errand, kind: str, body: Answer, *, once: bool) -> Do:
        self._last_chore += 1
        self._asked_by[self._last_chore] = errand
        return Do(self._last_chore, kind, body, once)

    def done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        """An answer that comes twice (from a keeper that died after it had spoken) counts once."""
        errand = self._asked_by.pop(chore_id, None)
        if errand is not None:
            errand.on_chore_done(desk, chore_id, answer)

    def listeners(self, record: r.Record) -> Iterable[Errand]:
        return self._listeners.get(type(record), ())

    def close(self, desk: Desk) -> None:
        """Nothing is left to run."""
        self.closed = True
        for errand in self.errands:
            errand.on_idle(desk)

    @property
    def busy(self) -> bool:
        return any(errand.busy for errand in self.errands)

    @property
    def hold_starts(self) -> bool:
        return any(errand.holds_starts for errand in self.errands)

    @property
    def next_deadline(self) -> float:
        return min((errand.next_deadline for errand in self.errands), default=NEVER)
