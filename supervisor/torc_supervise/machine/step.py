"""step(phase, event, now) -> (phase, actions): how one attempt of a job goes on.  Pure.

Termination only moves forward (P6): Running -> Terminating -> Killing -> Reaping -> Verifying -> Finished.  Each
phase x event pair is either handled here or listed in IGNORED with its reason; a test checks that none is
forgotten and that docs/states.md says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGCONT, SIGKILL
from typing import Any

from msgspec.structs import replace

from torc_supervise.exitstatus import Exited
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine.status import StopReason

LEFTOVER_GRACE = 5.0
"""Seconds between the termination signal and SIGKILL for what a job left behind when it exited by itself."""

UNKILLABLE_AFTER = 10.0
"""Seconds after SIGKILL until a process in uninterruptible sleep is given up (P12)."""

VERIFY_AT_MOST = 600.0
"""Seconds that a result waits for a file system to say whether outputs exist, while nothing is in a hurry (P12)."""

Step = tuple[p.Phase, tuple[a.Action, ...]]


def step(phase: p.Phase, event: e.Event, now: float) -> Step:
    """What follows from ``event`` at monotonic time ``now``: the next phase and what is to be done.

    Raises:
        KeyError: the pair is neither handled nor ignored, which is a bug (and a failing test).
    """
    handler = HANDLED.get((type(phase), type(event)))
    if handler is not None:
        return handler(phase, event, now)
    IGNORED[type(phase), type(event)]  # raises KeyError for a pair that nobody decided on
    return phase, ()


# -- starting -----------------------------------------------------------------------------------------------


def _spawned(phase: p.Starting, event: e.Spawned, now: float) -> Step:
    running = p.Running(phase.policy, event.pgid, now, event.ask_at, event.ask_why, event.ask_kill_at)
    return running, ()


def _spawn_refused(phase: p.Starting, event: e.SpawnRefused, now: float) -> Step:
    return p.PutBack(), (a.ReturnToReady(event.errno),)


def _spawn_failed(phase: p.Starting, event: e.SpawnFailed, now: float) -> Step:
    return p.Finished(), (a.RecordFailedStart(event.errno, event.message),)


# -- asked to end -------------------------------------------------------------------------------------------


def _stop(phase: p.Running, event: e.StopAsked, now: float) -> Step:
    """The one place where a termination signal is sent to a job that still runs."""
    policy = phase.policy
    if not policy.supports_termination or policy.termination_signal == SIGKILL:
        return _kill(phase, e.KillAsked(event.why), now)
    signum = policy.termination_signal
    send: a.Action = (
        a.SignalLeader(phase.pgid, signum) if policy.signal_leader_only else a.SignalGroup(phase.pgid, signum)
    )
    # SIGCONT comes after the signal: a stopped job acts on a signal that is already pending (P14).
    terminating = p.Terminating(policy, phase.pgid, phase.started, now, event.kill_at, event.why)
    return terminating, (
        send,
        a.SignalGroup(phase.pgid, SIGCONT),
        a.NoteSignal(phase.pgid, signum, event.why),
    )


def _kill(phase: p.Running | p.Terminating, event: e.KillAsked, now: float) -> Step:
    exit_, leftovers = None, 0
    why = event.why
    if isinstance(phase, p.Terminating):
        exit_, leftovers, why = phase.exit, phase.leftovers, phase.why
    killing = p.Killing(
        phase.policy, phase.pgid, phase.started, now + UNKILLABLE_AFTER, why, exit_, leftovers
    )
    return killing, (a.SignalGroup(phase.pgid, SIGKILL), a.NoteSignal(phase.pgid, SIGKILL, why))


def _stop_again(phase: p.Terminating, event: e.StopAsked, now: float) -> Step:
    """A repeated request never restarts or lengthens the grace; a nearer end of the allocation shortens it."""
    return replace(phase, kill_at=min(phase.kill_at, event.kill_at)), ()


def _note_cancel(phase: p.Terminating | p.Killing, event: e.CancelNoted, now: float) -> Step:
    return (replace(phase, why=StopReason.CANCEL) if phase.why is StopReason.SIGNAL else phase), ()


def _note_cancel_late(phase: p.Reaping | p.Verifying, event: e.CancelNoted, now: float) -> Step:
    if phase.outcome.why is not StopReason.SIGNAL:
        return phase, ()
    return replace(phase, outcome=replace(phase.outcome, why=StopReason.CANCEL)), ()


# -- another end --------------------------------------------------------------------------------------------


def _running_moved(phase: p.Running, event: e.EndMoved, now: float) -> Step:
    """Nobody has asked it yet: it gets the deadlines that it would have got, had this end been known."""
    policy = replace(phase.policy, grace=event.grace)
    moved = replace(
        phase, policy=policy, ask_at=event.ask_at, ask_why=event.ask_why, ask_kill_at=event.ask_kill_at
    )
    return moved, ()


def _terminating_moved(phase: p.Terminating, event: e.EndMoved, now: float) -> Step:
    """A grace that has begun is never lengthened, but an end that came nearer cuts it short (P6)."""
    return replace(phase, kill_at=min(phase.kill_at, event.ask_kill_at)), ()


def _lingering_moved(phase: p.Lingering, event: e.EndMoved, now: float) -> Step:
    return _lingering_stop(phase, e.StopAsked(event.ask_why, event.ask_kill_at), now)


# -- the clock ----------------------------------------------------------------------------------------------


def _running_clock(phase: p.Running, event: e.ClockReached, now: float) -> Step:
    if now < phase.ask_at:
        return phase, ()
    kill_at = phase.ask_kill_at if phase.ask_kill_at > now else now
    return _stop(phase, e.StopAsked(phase.ask_why, kill_at), now)


def _terminating_clock(phase: p.Terminating, event: e.ClockReached, now: float) -> Step:
    if now < phase.kill_at:
        return phase, ()
    return _kill(phase, e.KillAsked(phase.why), now)


def _killing_clock(phase: p.Killing, event: e.ClockReached, now: float) -> Step:
    if now < phase.give_up_at:
        return phase, ()
    outcome = p.Outcome(phase.exit, now, phase.why, killed=True, unkillable=True, leftovers=phase.leftovers)
    return p.Abandoned(phase.pgid, phase.exit is not None), (a.RecordResult(outcome, phase.started),)


def _lingering_clock(phase: p.Lingering, event: e.ClockReached, now: float) -> Step:
    if now >= phase.give_up_at:
        outcome = p.Outcome(phase.exit, now, unkillable=True, leftovers=phase.leftovers)
        return p.Abandoned(phase.pgid, leader_gone=True), (a.RecordResult(outcome, phase.started),)
    if now >= phase.kill_at:
        return _kill_leftovers(phase, now)
    return phase, ()


def _verifying_clock(phase: p.Verifying, event: e.ClockReached, now: float) -> Step:
    if now < phase.give_up_at:
        return phase, ()
    return p.Finished(), (a.RecordResult(phase.outcome, phase.started),)


# -- the leader or its group is gone ------------------------------------------------------------------------


def _running_exited(phase: p.Running, event: e.LeaderExited, now: float) -> Step:
    if event.exit is None:  # the leader of a job step, which is alone in its group
        return _reap(phase, p.Outcome(None, now, StopReason.STEP_LOST))
    if event.members == 0:
        return _reap(phase, p.Outcome(event.exit, now))
    kill_at = min(now + LEFTOVER_GRACE, phase.ask_kill_at)  # gone before the allocation is
    left = event.members - event.escaped
    note = a.NoteLeftovers(left, event.escaped)
    lingering = p.Lingering(phase.policy, phase.pgid, phase.started, event.exit, left, kill_at)
    signum = phase.policy.termination_signal
    if signum == SIGKILL:
        killed, actions = _kill_leftovers(lingering, now)
        return killed, (*actions, note)
    return lingering, (
        a.SignalGroup(phase.pgid, signum),
        a.SignalGroup(phase.pgid, SIGCONT),
        a.NoteSignal(phase.pgid, signum, StopReason.LEFTOVER),
        note,
    )


def _stopping_exited(phase: p.Terminating | p.Killing, event: e.LeaderExited, now: float) -> Step:
    """P4: a leader that is gone says nothing about the children that still save."""
    if isinstance(phase, p.Killing) and event.members == 0 and isinstance(event.exit, Exited):
        # Race: it exited by itself, unseen, before SIGKILL went out.  A process that SIGKILL ended never has an exit
        # code, and nothing else is left of the group: it ended within its grace, with a code of its own.
        return _reap(phase, p.Outcome(event.exit, now, phase.why))
    known = replace(phase, exit=event.exit, leftovers=event.members - event.escaped)
    stopping, actions = _stopping_changed(known, e.GroupChanged(event.members), now)
    return stopping, (*actions, a.NoteLeftovers(0, event.escaped)) if event.escaped else actions


def _stopping_changed(phase: p.Terminating | p.Killing, event: e.GroupChanged, now: float) -> Step:
    if event.members:
        return phase, ()
    killed = isinstance(phase, p.Killing)
    outcome = p.Outcome(phase.exit, now, phase.why, killed=killed, leftovers=phase.leftovers)
    return _reap(phase, outcome)


def _lingering_changed(phase: p.Lingering, event: e.GroupChanged, now: float) -> Step:
    if event.members:
        return phase, ()
    return _reap(phase, p.Outcome(phase.exit, now, leftovers=phase.leftovers))


def _lingering_stop(phase: p.Lingering, event: e.StopAsked, now: float) -> Step:
    """It has its exit status already and keeps it; its leftovers must be gone before the allocation is."""
    return replace(phase, kill_at=min(phase.kill_at, event.kill_at)) if phase.kill_at < p.NEVER else phase, ()


def _lingering_kill(phase: p.Lingering, event: e.KillAsked, now: float) -> Step:
    return _kill_leftovers(phase, now) if phase.kill_at < p.NEVER else (phase, ())


def _kill_leftovers(phase: p.Lingering, now: float) -> Step:
    killed = replace(phase, kill_at=p.NEVER, give_up_at=now + UNKILLABLE_AFTER)
    return killed, (
        a.SignalGroup(phase.pgid, SIGKILL),
        a.NoteSignal(phase.pgid, SIGKILL, StopReason.LEFTOVER),
    )


def _abandoned_exited(phase: p.Abandoned, event: e.LeaderExited, now: float) -> Step:
    if event.members:
        return replace(phase, leader_gone=True), ()
    return p.Finished(), (a.Reap(phase.pgid),)


def _abandoned_changed(phase: p.Abandoned, event: e.GroupChanged, now: float) -> Step:
    return (p.Finished(), (a.Reap(phase.pgid),)) if event.members == 0 else (phase, ())


# -- the books ----------------------------------------------------------------------------------------------


def _reap(phase: p.Running | p.Terminating | p.Killing | p.Lingering, outcome: p.Outcome) -> Step:
    return p.Reaping(phase.policy, phase.started, outcome), (a.Reap(phase.pgid),)


def _reaped(phase: p.Reaping, event: e.Reaped, now: float) -> Step:
    outcome = replace(phase.outcome, usage=event.usage)
    if phase.policy.verify:
        return p.Verifying(phase.started, outcome, now + VERIFY_AT_MOST), (a.Verify(outcome),)
    return p.Finished(), (a.RecordResult(outcome, phase.started),)


def _verified(phase: p.Verifying, event: e.Verified, now: float) -> Step:
    return p.Finished(), (a.RecordResult(phase.outcome, phase.started, event),)


def _verifying_leaving(phase: p.Verifying, event: e.LeavingAsked, now: float) -> Step:
    return replace(phase, give_up_at=min(phase.give_up_at, event.give_up_at)), ()


# -- the table ----------------------------------------------------------------------------------------------

HANDLED: dict[tuple[type[p.Phase], type[e.Event]], Callable[[Any, Any, float], Step]] = {
    (p.Starting, e.Spawned): _spawned,
    (p.Starting, e.SpawnRefused): _spawn_refused,
    (p.Starting, e.SpawnFailed): _spawn_failed,
    (p.Running, e.StopAsked): _stop,
    (p.Running, e.KillAsked): _kill,
    (p.Running, e.EndMoved): _running_moved,
    (p.Running, e.ClockReached): _running_clock,
    (p.Running, e.LeaderExited): _running_exited,
    (p.Terminating, e.StopAsked): _stop_again,
    (p.Terminating, e.KillAsked): _kill,
    (p.Terminating, e.CancelNoted): _note_cancel,
    (p.Terminating, e.EndMoved): _terminating_moved,
    (p.Terminating, e.ClockReached): _terminating_clock,
    (p.Terminating, e.LeaderExited): _stopping_exited,
    (p.Terminating, e.GroupChanged): _stopping_changed,
    (p.Killing, e.CancelNoted): _note_cancel,
    (p.Killing, e.ClockReached): _killing_clock,
    (p.Killing, e.LeaderExited): _stopping_exited,
    (p.Killing, e.GroupChanged): _stopping_changed,
    (p.Lingering, e.StopAsked): _lingering_stop,
    (p.Lingering, e.KillAsked): _lingering_kill,
    (p.Lingering, e.EndMoved): _lingering_moved,
    (p.Lingering, e.ClockReached): _lingering_clock,
    (p.Lingering, e.GroupChanged): _lingering_changed,
    (p.Reaping, e.CancelNoted): _note_cancel_late,
    (p.Reaping, e.Reaped): _reaped,
    (p.Verifying, e.CancelNoted): _note_cancel_late,
    (p.Verifying, e.Verified): _verified,
    (p.Verifying, e.ClockReached): _verifying_clock,
    (p.Verifying, e.LeavingAsked): _verifying_leaving,
    (p.Abandoned, e.LeaderExited): _abandoned_exited,
    (p.Abandoned, e.GroupChanged): _abandoned_changed,
}

_NOT_THERE = "cannot happen in this phase"
_LATE = "too late to matter"
_NO_LIMIT = "this phase has its own bound, or none is needed"


def _ignored() -> dict[tuple[type[p.Phase], type[e.Event]], str]:
    """Silence is a decision as well: every pair that is not handled, with the reason."""
    reasons: dict[type[e.Event], str] = {
        e.StopAsked: _LATE,
        e.KillAsked: _LATE,
        e.CancelNoted: "nobody has asked it to end, or its end is recorded",
        e.ClockReached: "no deadline of its own",
        e.LeavingAsked: _NO_LIMIT,
        e.EndMoved: _NO_LIMIT,
    }
    special: dict[tuple[type[p.Phase], type[e.Event]], str] = {
        (p.Killing, e.StopAsked): "SIGKILL is on its way",
        (p.Killing, e.KillAsked): "SIGKILL is sent once",
        (p.Killing, e.EndMoved): "SIGKILL is on its way",
        (p.Starting, e.EndMoved): "its deadlines are reckoned when there is a process",
        (p.Starting, e.StopAsked): "the table asks again as soon as there is a process (P7)",
        (p.Starting, e.KillAsked): "the table asks again as soon as there is a process (P7)",
        (p.Running, e.GroupChanged): "its leader lives; the group's other members are its own business",
        (p.Finished, e.Reaped): "an abandoned job's zombie, collected late",
        (p.Finished, e.Verified): "the answer came after the wait for it was given up",
    }
    return {
        (phase, event): special.get((phase, event), reasons.get(event, _NOT_THERE))
        for phase in p.PHASES
        for event in e.EVENTS
        if (phase, event) not in HANDLED
    }


IGNORED = _ignored()
