"""step(): one phase, one event, one time.  The whole table, then what each transition means."""

from __future__ import annotations

from signal import SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGUSR1

import pytest
from msgspec.structs import replace

from torc_supervise.exitstatus import Exited, Signaled, Usage
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine.status import StopReason
from torc_supervise.machine.step import (
    HANDLED,
    IGNORED,
    LEFTOVER_GRACE,
    UNKILLABLE_AFTER,
    VERIFY_AT_MOST,
    step,
)

NOW = 5000.0
PGID = 77
POLICY = p.Policy(SIGTERM, supports_termination=True)
CANNOT = p.Policy(SIGTERM)
USAGE = Usage(1, 2.0, 3.0)

RUNNING = p.Running(POLICY, PGID, 4000.0)
TERMINATING = p.Terminating(POLICY, PGID, 4000.0, 4990.0, 5020.0, StopReason.SIGNAL)
KILLING = p.Killing(POLICY, PGID, 4000.0, 5010.0, StopReason.SIGNAL)
LINGERING = p.Lingering(POLICY, PGID, 4000.0, Exited(0), 2, 5005.0)
OUTCOME = p.Outcome(Exited(0), 4999.0)
VERIFYING = p.Verifying(4000.0, OUTCOME)

PHASES: tuple[p.Phase, ...] = (
    p.Starting(POLICY),
    RUNNING,
    TERMINATING,
    KILLING,
    LINGERING,
    p.Reaping(POLICY, 4000.0, OUTCOME),
    VERIFYING,
    p.Abandoned(PGID),
    p.Finished(),
    p.PutBack(),
)
EVENTS: tuple[e.Event, ...] = (
    e.Spawned(PGID),
    e.SpawnRefused(11),
    e.SpawnFailed(2, "no such file"),
    e.LeaderExited(Exited(0), 0),
    e.GroupChanged(0),
    e.Reaped(USAGE),
    e.StopAsked(StopReason.SIGNAL, 5030.0),
    e.KillAsked(StopReason.SIGNAL),
    e.CancelNoted(),
    e.LeavingAsked(5030.0),
    e.EndMoved(5000.0, StopReason.WALL_TIME, 5030.0, 30.0),
    e.ClockReached(),
    e.Verified(),
)
ALL_PAIRS = [(phase, event) for phase in PHASES for event in EVENTS]


def signals(actions: tuple[a.Action, ...]) -> list[int]:
    return [x.signum for x in actions if isinstance(x, a.SignalGroup | a.SignalLeader)]


# -- the table ------------------------------------------------------------------------------------------------


def test_the_samples_of_this_file_are_complete() -> None:
    assert tuple(map(type, PHASES)) == p.PHASES
    assert tuple(map(type, EVENTS)) == e.EVENTS


@pytest.mark.parametrize("phase", p.PHASES)
@pytest.mark.parametrize("event", e.EVENTS)
def test_no_pair_is_forgotten(phase: type[p.Phase], event: type[e.Event]) -> None:
    handled, ignored = (phase, event) in HANDLED, (phase, event) in IGNORED
    assert handled ^ ignored, f"decide what {phase.__name__} does on {event.__name__}"
    assert handled or IGNORED[phase, event]


def test_a_pair_that_nobody_decided_on_is_an_error() -> None:
    with pytest.raises(KeyError):
        step(RUNNING, "no event", NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("phase", "event"), [x for x in ALL_PAIRS if (type(x[0]), type(x[1])) in IGNORED])
def test_an_ignored_pair_changes_nothing(phase: p.Phase, event: e.Event) -> None:
    assert step(phase, event, NOW) == (phase, ())


ORDER = {
    kind: n
    for n, kind in enumerate(
        [
            p.Starting,
            p.Running,
            p.Terminating,
            p.Killing,
            p.Lingering,
            p.Reaping,
            p.Verifying,
            p.Abandoned,
            p.Finished,
            p.PutBack,
        ]
    )
}


@pytest.mark.parametrize(("phase", "event"), ALL_PAIRS)
@pytest.mark.parametrize("now", [NOW, 6000.0])
def test_p6_phases_only_move_forward(phase: p.Phase, event: e.Event, now: float) -> None:
    after, _ = step(phase, event, now)
    assert ORDER[type(after)] >= ORDER[type(phase)]


@pytest.mark.parametrize(("phase", "event"), ALL_PAIRS)
@pytest.mark.parametrize("now", [NOW, 6000.0])
def test_p3_a_reap_is_ordered_only_by_an_event_that_says_the_group_is_empty(
    phase: p.Phase, event: e.Event, now: float
) -> None:
    for members in (0, 1):
        if isinstance(event, e.LeaderExited | e.GroupChanged):
            event = replace(event, members=members)
        after, actions = step(phase, event, now)
        if any(isinstance(action, a.Reap) for action in actions):
            assert isinstance(event, e.LeaderExited | e.GroupChanged)
            assert event.members == 0
            assert p.pgid_of(after) is None, "nobody can signal the number any more"


@pytest.mark.parametrize(("phase", "event"), ALL_PAIRS)
def test_every_signal_is_noted_once_sigcont_excepted(phase: p.Phase, event: e.Event) -> None:
    _, actions = step(phase, event, 6000.0)
    noted = [x.signum for x in actions if isinstance(x, a.NoteSignal)]
    assert noted == [signum for signum in signals(actions) if signum != SIGCONT]


@pytest.mark.parametrize("phase", [RUNNING, TERMINATING, KILLING, LINGERING, VERIFYING])
def test_p12_a_phase_whose_deadline_has_come_acts_on_it(phase: p.Phase) -> None:
    """A phase that stayed as it is would have the loop spin, or wait for ever."""
    if isinstance(phase, p.Running):
        phase = replace(phase, ask_at=NOW, ask_kill_at=NOW)
    if isinstance(phase, p.Verifying):
        phase = replace(phase, give_up_at=NOW)
    at = p.deadline(phase)
    assert at < p.NEVER
    early, nothing = step(phase, e.ClockReached(), at - 0.001)
    assert (early, nothing) == (phase, ())
    late, actions = step(phase, e.ClockReached(), at)
    assert late != phase
    assert actions
    assert p.deadline(late) > at or p.deadline(late) == p.NEVER or isinstance(late, p.Terminating)


# -- starting -------------------------------------------------------------------------------------------------


def test_a_spawned_job_runs_from_now_with_its_own_deadlines() -> None:
    event = e.Spawned(PGID, 5100.0, StopReason.RUNTIME_LIMIT, 5130.0)
    phase, actions = step(p.Starting(POLICY), event, NOW)
    assert phase == p.Running(POLICY, PGID, NOW, 5100.0, StopReason.RUNTIME_LIMIT, 5130.0)
    assert actions == ()


def test_p11_a_refused_spawn_puts_the_job_back() -> None:
    assert step(p.Starting(POLICY), e.SpawnRefused(11), NOW) == (p.PutBack(), (a.ReturnToReady(11),))


def test_p11_control_a_failed_spawn_does_not() -> None:
    phase, actions = step(p.Starting(POLICY), e.SpawnFailed(2, "x"), NOW)
    assert (phase, actions) == (p.Finished(), (a.RecordFailedStart(2, "x"),))


# -- asked to end ---------------------------------------------------------------------------------------------


def test_p14_the_termination_signal_goes_to_the_group_and_sigcont_after_it() -> None:
    phase, actions = step(RUNNING, e.StopAsked(StopReason.SIGNAL, 5030.0), NOW)
    assert phase == p.Terminating(POLICY, PGID, 4000.0, NOW, 5030.0, StopReason.SIGNAL)
    assert actions == (
        a.SignalGroup(PGID, SIGTERM),
        a.SignalGroup(PGID, SIGCONT),
        a.NoteSignal(PGID, SIGTERM, StopReason.SIGNAL),
    )


def test_scope_leader_sends_the_termination_signal_to_the_leader_alone() -> None:
    policy = replace(POLICY, signal_leader_only=True, termination_signal=SIGUSR1)
    _, actions = step(replace(RUNNING, policy=policy), e.StopAsked(StopReason.CANCEL, 5030.0), NOW)
    assert actions[:2] == (a.SignalLeader(PGID, SIGUSR1), a.SignalGroup(PGID, SIGCONT))


@pytest.mark.parametrize("policy", [CANNOT, replace(POLICY, termination_signal=SIGKILL)])
def test_a_job_that_cannot_save_is_killed_at_once(policy: p.Policy) -> None:
    phase, actions = step(replace(RUNNING, policy=policy), e.StopAsked(StopReason.SIGNAL, 5030.0), NOW)
    assert phase == p.Killing(policy, PGID, 4000.0, NOW + UNKILLABLE_AFTER, StopReason.SIGNAL)
    assert signals(actions) == [SIGKILL]


def test_p6_a_repeated_request_neither_lengthens_the_grace_nor_signals_again() -> None:
    phase: p.Phase = TERMINATING
    for n in range(5):
        phase, actions = step(phase, e.StopAsked(StopReason.SIGNAL, 9000.0 + n), NOW + n)
        assert actions == ()
    assert phase == TERMINATING


def test_p6_a_nearer_end_shortens_the_grace() -> None:
    phase, actions = step(TERMINATING, e.StopAsked(StopReason.WALL_TIME, 5001.0), NOW)
    assert (phase, actions) == (replace(TERMINATING, kill_at=5001.0), ())


def test_p6_sigkill_is_sent_once() -> None:
    phase, actions = step(TERMINATING, e.ClockReached(), 5020.0)
    assert signals(actions) == [SIGKILL]
    for event in (
        e.KillAsked(StopReason.CANCEL),
        e.StopAsked(StopReason.SIGNAL, 0.0),
        e.ClockReached(),
        e.LeaderExited(Signaled(SIGKILL), 3),
        e.GroupChanged(2),
    ):
        phase, actions = step(phase, event, 5021.0)
        assert signals(actions) == []
    assert isinstance(phase, p.Killing)


def test_a_kill_keeps_the_first_reason_and_what_is_known_of_the_leader() -> None:
    known = replace(TERMINATING, exit=Exited(3), leftovers=1)
    phase, _ = step(known, e.KillAsked(StopReason.CANCEL), NOW)
    assert phase == p.Killing(POLICY, PGID, 4000.0, NOW + 10.0, StopReason.SIGNAL, Exited(3), 1)


def test_a_deadline_of_its_own_asks_the_job_with_its_own_reason() -> None:
    running = replace(RUNNING, ask_at=NOW, ask_why=StopReason.RUNTIME_LIMIT, ask_kill_at=NOW + 9)
    phase, _ = step(running, e.ClockReached(), NOW)
    assert isinstance(phase, p.Terminating)
    assert (phase.why, phase.kill_at) == (StopReason.RUNTIME_LIMIT, NOW + 9)


# -- somebody is gone -----------------------------------------------------------------------------------------


def test_an_exit_by_itself_is_reaped_at_once_when_the_group_is_empty() -> None:
    phase, actions = step(RUNNING, e.LeaderExited(Exited(3), 0), NOW)
    assert phase == p.Reaping(POLICY, 4000.0, p.Outcome(Exited(3), NOW))
    assert actions == (a.Reap(PGID),)


def test_p4_the_leaders_death_does_not_end_the_grace_of_its_group() -> None:
    phase, actions = step(TERMINATING, e.LeaderExited(Signaled(SIGTERM), 2), NOW)
    assert phase == replace(TERMINATING, exit=Signaled(SIGTERM), leftovers=2)
    assert actions == ()
    phase, actions = step(phase, e.GroupChanged(1), NOW + 1)
    assert actions == ()
    phase, actions = step(phase, e.GroupChanged(0), NOW + 2)
    assert isinstance(phase, p.Reaping)
    assert phase.outcome == p.Outcome(Signaled(SIGTERM), NOW + 2, StopReason.SIGNAL, leftovers=2)
    assert actions == (a.Reap(PGID),)


def test_p4_control_an_empty_group_ends_the_grace_at_once() -> None:
    phase, _ = step(TERMINATING, e.LeaderExited(Exited(0), 0), NOW)
    assert isinstance(phase, p.Reaping)


def test_an_exit_code_that_comes_after_sigkill_went_out_was_reached_before_it() -> None:
    phase, _ = step(KILLING, e.LeaderExited(Exited(0), 0), NOW)
    assert isinstance(phase, p.Reaping)
    assert phase.outcome == p.Outcome(Exited(0), NOW, StopReason.SIGNAL)
    phase, _ = step(KILLING, e.LeaderExited(Signaled(SIGKILL), 0), NOW)
    assert isinstance(phase, p.Reaping)
    assert phase.outcome.killed


def test_what_a_job_leaves_behind_is_asked_to_end_and_warned_about() -> None:
    phase, actions = step(RUNNING, e.LeaderExited(Exited(0), 2), NOW)
    assert phase == p.Lingering(POLICY, PGID, 4000.0, Exited(0), 2, NOW + LEFTOVER_GRACE)
    assert signals(actions) == [SIGTERM, SIGCONT]
    assert a.NoteLeftovers(2) in actions


def test_leftovers_are_killed_once_and_given_up_after_a_limit() -> None:
    killed, actions = step(LINGERING, e.ClockReached(), 5005.0)
    assert signals(actions) == [SIGKILL]
    for event in (
        e.KillAsked(StopReason.SIGNAL),
        e.StopAsked(StopReason.SIGNAL, 0.0),
        e.ClockReached(),
        e.GroupChanged(1),
    ):
        killed, actions = step(killed, event, 5006.0)
        assert actions == ()
    phase, actions = step(killed, e.ClockReached(), 5005.0 + UNKILLABLE_AFTER)
    assert phase == p.Abandoned(PGID, leader_gone=True)
    (record,) = actions
    assert isinstance(record, a.RecordResult)
    assert (record.outcome.unkillable, record.outcome.exit, record.outcome.why) == (True, Exited(0), None)


def test_a_request_to_end_only_hurries_leftovers() -> None:
    assert step(LINGERING, e.StopAsked(StopReason.SIGNAL, 9999.0), NOW) == (LINGERING, ())
    phase, actions = step(LINGERING, e.StopAsked(StopReason.SIGNAL, 5001.0), NOW)
    assert (phase, actions) == (replace(LINGERING, kill_at=5001.0), ())
    _, actions = step(LINGERING, e.KillAsked(StopReason.SIGNAL), NOW)
    assert signals(actions) == [SIGKILL]


# -- the books ------------------------------------------------------------------------------------------------


def test_p12_what_sigkill_does_not_end_is_recorded_as_unkillable() -> None:
    phase, actions = step(KILLING, e.ClockReached(), KILLING.give_up_at)
    assert phase == p.Abandoned(PGID)
    (record,) = actions
    assert isinstance(record, a.RecordResult)
    assert record.outcome.unkillable


def test_p3_the_zombie_of_an_abandoned_job_is_collected_once_its_group_is_empty() -> None:
    phase, actions = step(p.Abandoned(PGID), e.LeaderExited(Signaled(SIGKILL), 1), NOW)
    assert (phase, actions) == (p.Abandoned(PGID, leader_gone=True), ())
    assert p.leader_gone(phase)
    assert step(phase, e.GroupChanged(0), NOW) == (p.Finished(), (a.Reap(PGID),))
    assert step(p.Finished(), e.Reaped(USAGE), NOW) == (p.Finished(), ())


def test_a_reaped_job_with_declared_files_is_verified_before_its_result() -> None:
    reaping = p.Reaping(replace(POLICY, verify=True), 4000.0, OUTCOME)
    phase, actions = step(reaping, e.Reaped(USAGE), NOW)
    outcome = replace(OUTCOME, usage=USAGE)
    assert (phase, actions) == (
        p.Verifying(4000.0, outcome, NOW + VERIFY_AT_MOST),
        (a.Verify(outcome),),
    )
    seen = e.Verified(missing=("out",))
    assert step(phase, seen, NOW) == (p.Finished(), (a.RecordResult(outcome, 4000.0, seen),))


def test_a_reaped_job_without_declared_files_has_its_result_at_once() -> None:
    phase, actions = step(p.Reaping(POLICY, 4000.0, OUTCOME), e.Reaped(None), NOW)
    assert (phase, actions) == (p.Finished(), (a.RecordResult(OUTCOME, 4000.0),))


def test_p12_leaving_bounds_the_wait_for_a_file_system_and_never_lengthens_it() -> None:
    phase, _ = step(VERIFYING, e.LeavingAsked(5030.0), NOW)
    phase, _ = step(phase, e.LeavingAsked(9000.0), NOW)
    assert phase == replace(VERIFYING, give_up_at=5030.0)
    assert step(phase, e.ClockReached(), 5030.0) == (p.Finished(), (a.RecordResult(OUTCOME, 4000.0),))


def test_a_termination_signal_other_than_sigterm_is_used_for_leftovers_too() -> None:
    policy = replace(POLICY, termination_signal=SIGINT)
    _, actions = step(replace(RUNNING, policy=policy), e.LeaderExited(Exited(1), 1), NOW)
    assert signals(actions) == [SIGINT, SIGCONT]


def test_a_lost_job_step_is_terminated_whatever_it_was_about() -> None:
    """Its leader says so, and is alone in its group; nobody knows how far the job came."""
    phase, actions = step(RUNNING, e.LeaderExited(None, 0), NOW)
    assert isinstance(phase, p.Reaping)
    assert (phase.outcome.exit, phase.outcome.why) == (None, StopReason.STEP_LOST)
    assert actions == (a.Reap(PGID),)
    for asked in (TERMINATING, KILLING):
        phase, _ = step(asked, e.LeaderExited(None, 0), NOW)
        assert isinstance(phase, p.Reaping)
        assert (phase.outcome.exit, phase.outcome.why) == (None, asked.why)
