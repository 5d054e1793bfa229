"""The moments at which phases want to hear of the clock; and the pause of a full machine."""

from __future__ import annotations

from signal import SIGTERM

from torc_supervise.exitstatus import Exited
from torc_supervise.machine.backoff import FIRST_PAUSE, LONGEST_PAUSE, Backoff
from torc_supervise.machine.phases import NEVER, Outcome, Phase, Policy, Running, Verifying
from torc_supervise.machine.timers import Timers

POLICY = Policy(SIGTERM)


def running(ask_at: float) -> Running:
    return Running(POLICY, 7, 0.0, ask_at)


def test_a_changed_phase_leaves_a_stale_entry_that_nobody_hears_of() -> None:
    phases: dict[int, Phase] = {1: running(10.0), 2: running(20.0)}
    timers = Timers(phases)
    for job_id in phases:
        timers.note(job_id)
    assert timers.earliest == 10.0
    phases[1] = running(30.0)
    timers.note(1)
    assert timers.earliest == 20.0
    assert list(timers.due(25.0)) == [2]
    del phases[2]
    assert timers.earliest == 30.0


def test_a_phase_without_a_deadline_is_not_noted() -> None:
    phases: dict[int, Phase] = {1: running(NEVER)}
    timers = Timers(phases)
    timers.note(1)
    assert timers.earliest == NEVER
    assert list(timers.due(1e12)) == []


def test_what_becomes_due_meanwhile_is_due_as_well() -> None:
    phases: dict[int, Phase] = {1: running(1.0)}
    timers = Timers(phases)
    timers.note(1)
    heard = []
    for job_id in timers.due(5.0):
        heard.append(job_id)
        if len(heard) == 1:
            phases[1] = Verifying(0.0, Outcome(Exited(0), 1.0), give_up_at=5.0)
            timers.note(1)
        else:
            del phases[1]
    assert heard == [1, 1]


def test_p11_the_pause_doubles_up_to_a_limit_and_starts_anew_after_a_success() -> None:
    backoff = Backoff()
    pauses = [backoff.failed(100.0) for _ in range(60)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE
    assert backoff.until == 100.0 + LONGEST_PAUSE
    backoff.succeeded()
    assert backoff.failed(0.0) == FIRST_PAUSE
