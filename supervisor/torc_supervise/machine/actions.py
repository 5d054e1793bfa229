"""Actions: what a step asks the loop to do.  They are data, so a whole run is a list that can be replayed."""

from __future__ import annotations

from dataclasses import dataclass

from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import Outcome
from torc_supervise.machine.status import StopReason


@dataclass(frozen=True, slots=True)
class SignalGroup:
    """killpg(pgid, signum).  ESRCH is no news: only the reaper decides that something is dead."""

    pgid: int
    signum: int


@dataclass(frozen=True, slots=True)
class SignalLeader:
    """kill(pid, signum) of the leader alone, for ``signal_scope: leader``."""

    pid: int
    signum: int


@dataclass(frozen=True, slots=True)
class Reap:
    """Collect the leader's zombie and report ``Reaped``.  Only asked for when the group is empty (P3)."""

    pid: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Have the keeper look at the job's declared files and report ``Verified``."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class NoteSignal:
    """Record that the job was sent ``signum`` because of ``why``."""

    pgid: int
    signum: int
    why: StopReason


@dataclass(frozen=True, slots=True)
class NoteLeftovers:
    """Warn that ``members`` of the group outlived their leader, and ``escaped`` others outside of the group."""

    members: int
    escaped: int = 0


@dataclass(frozen=True, slots=True)
class RecordResult:
    """Record the one result of the attempt.  ``started`` is monotonic; ``verified`` is None where not looked."""

    outcome: Outcome
    started: float
    verified: Verified | None = None


@dataclass(frozen=True, slots=True)
class RecordFailedStart:
    """Record an attempt that could not be started, by the job's own fault."""

    errno: int
    message: str


@dataclass(frozen=True, slots=True)
class ReturnToReady:
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
