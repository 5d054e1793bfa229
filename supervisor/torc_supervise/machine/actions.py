"""Actions: what a step asks the loop to do.  They are data, so a whole run is a list that can be replayed."""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import Outcome
from torc_supervise.machine.status import StopReason


class SignalGroup(Struct, frozen=True, gc=False):
    """killpg(pgid, signum).  ESRCH is no news: only the reaper decides that something is dead."""

    pgid: int
    signum: int


class SignalLeader(Struct, frozen=True, gc=False):
    """kill(pid, signum) of the leader alone, for ``signal_scope: leader``."""

    pid: int
    signum: int


class Reap(Struct, frozen=True, gc=False):
    """Collect the leader's zombie and report ``Reaped``.  Only asked for when the group is empty (P3)."""

    pid: int


class Verify(Struct, frozen=True, gc=False):
    """Have the keeper look at the job's declared files and report ``Verified``."""

    outcome: Outcome


class NoteSignal(Struct, frozen=True, gc=False):
    """Record that the job was sent ``signum`` because of ``why``."""

    pgid: int
    signum: int
    why: StopReason


class NoteLeftovers(Struct, frozen=True, gc=False):
    """Warn that ``members`` of the group outlived their leader, and ``escaped`` others outside of the group."""

    members: int
    escaped: int = 0


class RecordResult(Struct, frozen=True, gc=False):
    """Record the one result of the attempt.  ``started`` is monotonic; ``verified`` is None where not looked."""

    outcome: Outcome
    started: float
    verified: Verified | None = None


class RecordFailedStart(Struct, frozen=True, gc=False):
    """Record an attempt that could not be started, by the job's own fault."""

    errno: int
    message: str


class ReturnToReady(Struct, frozen=True, gc=False):
    """No attempt was made; the job is ready as before, and the machine needs a pause."""

    errno: int


Action = (
    SignalGroup
    | SignalLeader
    | Reap
    | Verify
    | NoteSignal
    | NoteLeftovers
    | RecordResult
    | RecordFailedStart
    | ReturnToReady
)
