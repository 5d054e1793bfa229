"""Phases: where one attempt of a job is, each carrying exactly the data that makes sense there.

Impossible states cannot be written: there is no pid in ``Starting`` and no deadline in ``Finished``.  All times are
seconds on the monotonic clock.  docs/states.md is generated from the tables in ``step``.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from msgspec import Struct

from torc_supervise.exitstatus import Exit, Usage
from torc_supervise.machine.status import StopReason

NEVER = float("inf")


class Policy(Struct, frozen=True, gc=False):
    """How this job is to be ended; resolved from job and workflow when it starts.

    ``grace`` is the time between the termination signal and SIGKILL where nothing shortens it; ``grace_stated``
    tells whether a person asked for that figure.
    """

    termination_signal: int
    supports_termination: bool = False
    signal_leader_only: bool = False
    grace: float = 30.0
    grace_stated: bool = False
    verify: bool = False  # has output files or a checkpoint to look at when it has ended


class Starting(Struct, frozen=True, gc=False):
    """Handed to spawn; nobody knows yet whether there will be a process."""

    policy: Policy


class Running(Struct, frozen=True, gc=False):
    """The leader is alive.  At ``ask_at`` we ask it to end because of ``ask_why``."""

    policy: Policy
    pgid: int
    started: float
    ask_at: float = NEVER
    ask_why: StopReason = StopReason.WALL_TIME
    ask_kill_at: float = NEVER


class Terminating(Struct, frozen=True, gc=False):
    """The termination signal was sent at ``asked``; SIGKILL follows at ``kill_at``.

    ``exit`` is known once the leader is gone; the grace goes on for the rest of its group (P4).
    """

    policy: Policy
    pgid: int
    started: float
    asked: float
    kill_at: float
    why: StopReason
    exit: Exit | None = None
    leftovers: int = 0


class Killing(Struct, frozen=True, gc=False):
    """SIGKILL was sent, once.  What is still there at ``give_up_at`` is recorded as unkillable (P12)."""

    policy: Policy
    pgid: int
    started: float
    give_up_at: float
    why: StopReason
    exit: Exit | None = None
    leftovers: int = 0


class Lingering(Struct, frozen=True, gc=False):
    """The leader exited by itself and left members of its group behind; they were asked to end.

    At ``kill_at`` they get SIGKILL, after which ``kill_at`` is NEVER and ``give_up_at`` counts.
    """

    policy: Policy
    pgid: int
    started: float
    exit: Exit
    leftovers: int
    kill_at: float
    give_up_at: float = NEVER


class Outcome(Struct, frozen=True, gc=False):
    """What an attempt came to, before the files it declares were looked at."""

    exit: Exit | None
    ended: float  # when its group was empty
    why: StopReason | None = None  # the reason it was asked to end; None if nobody asked
    killed: bool = False
    unkillable: bool = False
    leftovers: int = 0
    usage: Usage | None = None


class Reaping(Struct, frozen=True, gc=False):
    """The group is empty; the leader's zombie is being collected."""

    policy: Policy
    started: float
    outcome: Outcome


class Verifying(Struct, frozen=True, gc=False):
    """Nothing of it runs any more; the keeper looks at its output files or its checkpoint.

    At ``give_up_at`` the result is recorded without an answer; that is soon where the supervisor wants to leave.
    """

    started: float
    outcome: Outcome
    give_up_at: float = NEVER


class Abandoned(Struct, frozen=True, gc=False):
    """Recorded as unkillable.  Should it die after all, its zombie is collected and nothing more is said."""

    pgid: int
    leader_gone: bool = False


class Finished(Struct, frozen=True, gc=False):
    """Over, with its result recorded."""


class PutBack(Struct, frozen=True, gc=False):
    """The machine was full; no process was made and no attempt was counted (P11)."""


Phase = (
    Starting
    | Running
    | Terminating
    | Killing
    | Lingering
    | Reaping
    | Verifying
    | Abandoned
    | Finished
    | PutBack
)

PHASES: tuple[type[Phase], ...] = Phase.__args__


_DEADLINES: dict[type[Phase], Callable[[Any], float]] = {
    Running: attrgetter("ask_at"),
    Terminating: attrgetter("kill_at"),
    Killing: attrgetter("give_up_at"),
    Lingering: lambda phase: min(phase.kill_at, phase.give_up_at),
    Verifying: attrgetter("give_up_at"),
}


def deadline(phase: Phase) -> float:
    """When this phase wants to hear ``ClockReached``; NEVER if it does not."""
    of = _DEADLINES.get(type(phase))
    return NEVER if of is None else of(phase)


def pgid_of(phase: Phase) -> int | None:
    """The process group that this phase may still send signals to, or collect; the others have no such number."""
    return getattr(phase, "pgid", None)


def leader_gone(phase: Phase) -> bool:
    """Whether the leader is known to be dead while its group may have members."""
    match phase:
        case Lingering() | Abandoned(leader_gone=True):
            return True
        case Terminating(exit=exit_) | Killing(exit=exit_):
            return exit_ is not None
        case _:
            return False


_OVER = {Abandoned, Finished, PutBack}
_HOLDING = {Starting, Killing, Lingering}


def gives_back(before: Phase, after: Phase) -> bool:
    """Whether this change of phase frees what the job held of the machine: once, when nothing of it runs
    any more, or we have stopped waiting for it: one process that nobody can kill must not hold up a whole workflow."""
    if type(after) is Reaping:
        return True
    return type(after) in _OVER and type(before) in _HOLDING
