"""Events: what can happen to one attempt of a job, as the loop reports it."""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.exitstatus import Exit, Usage
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.status import StopReason


class Spawned(Struct, frozen=True, gc=False):
    """There is a process, leader of its own session and group.  The deadlines are those of its time limits."""

    pgid: int
    ask_at: float = NEVER
    ask_why: StopReason = StopReason.WALL_TIME
    ask_kill_at: float = NEVER


class SpawnRefused(Struct, frozen=True, gc=False):
    """The machine is full (EAGAIN, EMFILE, ENFILE, ENOMEM): try again later."""

    errno: int


class SpawnFailed(Struct, frozen=True, gc=False):
    """It cannot be started, by its own fault."""

    errno: int
    message: str


class LeaderExited(Struct, frozen=True, gc=False):
    """The leader is a zombie that nobody has collected; ``members`` of its job are still alive, ``escaped`` of these
    outside of its group.


    ``exit``: None where the leader stood for a job step and nobody knows how that ended.
    """

    exit: Exit | None
    members: int
    escaped: int = 0


class GroupChanged(Struct, frozen=True, gc=False):
    """The leader was gone before; now ``members`` of its job are alive, in its group or not."""

    members: int


class Reaped(Struct, frozen=True, gc=False):
    """The zombie was collected."""

    usage: Usage | None


class StopAsked(Struct, frozen=True, gc=False):
    """End it: politely where it supports termination, until ``kill_at``."""

    why: StopReason
    kill_at: float


class KillAsked(Struct, frozen=True, gc=False):
    """End it at once."""

    why: StopReason


class CancelNoted(Struct, frozen=True, gc=False):
    """The workflow was canceled after a signal had asked for its end: that signal was the cancel."""


class LeavingAsked(Struct, frozen=True, gc=False):
    """The supervisor wants to leave: waits that have no end get one, at ``give_up_at``."""

    give_up_at: float


class EndMoved(Struct, frozen=True, gc=False):
    """The end of the allocation is another one than was known.  The fields are what follows for a job of this phase.

    ``ask_at``, ``ask_why`` and ``grace`` count for a job that nobody has asked yet.
    """

    ask_at: float
    ask_why: StopReason
    ask_kill_at: float
    grace: float


class ClockReached(Struct, frozen=True, gc=False):
    """The clock may have passed a deadline of the phase."""


class Verified(Struct, frozen=True, gc=False):
    """The keeper looked at the declared files.

    ``missing``: names of output files that are not there.  ``seen``: name -> mtime in ns.  ``checkpoint_saved``:
    None where none is declared or the job was not asked to end.
    """

    missing: tuple[str, ...] = ()
    seen: tuple[tuple[str, int], ...] = ()
    checkpoint_saved: bool | None = None


Event = (
    Spawned
    | SpawnRefused
    | SpawnFailed
    | LeaderExited
    | GroupChanged
    | Reaped
    | StopAsked
    | KillAsked
    | CancelNoted
    | LeavingAsked
    | EndMoved
    | ClockReached
    | Verified
)

EVENTS: tuple[type[Event], ...] = Event.__args__
