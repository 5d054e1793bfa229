"""Whole runs in a simulated world, one scenario a test.  Times are seconds since the run began."""

from __future__ import annotations

from signal import SIGINT, SIGSTOP, SIGTERM, SIGUSR1

import pytest

from support.replaying import NEVER, Capacity, ExecutionConfig, Program, Requirements, Verified, World, job
from torc_supervise.machine import records as r
from torc_supervise.machine.phases import Abandoned, Verifying
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import RunState, Status, StopReason

FOREVER = Program(seconds=NEVER)
DEAF = Program(seconds=NEVER, ignores=True)
SAVES = Program(seconds=NEVER, saves=4.0)


def test_a_job_that_exits_0_is_completed_and_its_dependents_run() -> None:
    world = World(job(1), job(2, depends_on=(1,))).finish()
    assert [world.status(1), world.status(2)] == [Status.COMPLETED, Status.COMPLETED]
    assert [at - world.start for at, _ in world.starts] == [0.0, 10.0]
    assert world.state.outcome() is RunState.COMPLETED
    assert world.signals(1) == []


def test_jobs_of_another_allocation_are_not_said_to_have_lacked_time() -> None:
    world = World(job(1), job(2, depends_on=(1,), scheduler="other"))
    world.scheduler.runs_here = lambda job: job.scheduler != "other"
    world.finish()
    assert world.status(2) is Status.READY
    assert [record for _, record in world.records if isinstance(record, r.Warned)] == []


def test_an_empty_workflow_is_done_at_once() -> None:
    assert World().finish().state.outcome() is RunState.COMPLETED


# -- asked to end ---------------------------------------------------------------------------------------------


def test_p6_sigkill_follows_exactly_one_grace_after_the_termination_signal() -> None:
    world = World(job(1), programs={1: DEAF}).until(1.0)
    world.signal(SIGTERM)
    assert world.until(30.9).signals(1) == [(1.0, "SIGTERM"), (1.0, "SIGCONT")]
    assert world.until(31.0).signals(1)[-1] == (31.0, "SIGKILL")
    result = world.finish().result(1)
    assert (result.status, result.ended, result.return_code, result.signal) == (
        "terminated",
        "killed",
        137,
        "SIGKILL",
    )


def test_p6_five_more_sigterms_neither_lengthen_the_grace_nor_signal_twice() -> None:
    world = World(job(1), programs={1: DEAF}).until(1.0)
    for at in (1.0, 2.0, 3.0, 30.0, 30.5, 30.9):
        world.until(at)
        world.signal(SIGTERM)
    world.finish()
    assert world.signals(1) == [(1.0, "SIGTERM"), (1.0, "SIGCONT"), (31.0, "SIGKILL")]
    assert sum(record.count or 1 for record in world.of(r.SignalReceived)) == 6


def test_p6_control_without_any_signal_the_same_job_runs_on() -> None:
    assert World(job(1), programs={1: DEAF}).until(1e6).signals(1) == []


def test_a_job_that_saves_and_exits_0_after_the_signal_is_terminated() -> None:
    world = World(job(1), job(2, depends_on=(1,)), programs={1: SAVES}).until(1.0)
    world.signal(SIGTERM)
    result = world.finish().result(1)
    assert (result.status, result.ended, result.return_code) == ("terminated", "in_grace", 0)
    assert result.exec_time_seconds == 5.0
    assert world.status(2) is Status.BLOCKED, "a dependent never runs on half a result"
    assert world.state.outcome() is RunState.TERMINATED


def test_a_job_that_does_not_support_termination_is_killed_at_once() -> None:
    world = World(job(1, supports_termination=False), programs={1: FOREVER}).until(1.0)
    world.signal(SIGUSR1)
    assert world.signals(1) == [(1.0, "SIGKILL")]
    assert world.finish().result(1).ended == "killed"


def test_an_exit_that_was_seen_before_the_signal_keeps_its_own_status() -> None:
    world = World(job(1)).until(9.0)
    world.now = world.start + 10.0  # it exited; the same turn brings the signal
    world.turn([SIGTERM])
    assert world.finish().result(1).status == "completed"
    assert world.signals(1) == []


def test_an_exit_that_was_not_seen_before_the_signal_is_terminated_with_its_own_code() -> None:
    world = World(job(1), job(2, supports_termination=False)).until(9.0)
    world.now = world.start + 10.0
    world.turn([SIGTERM], sweep=False)
    world.finish()
    for job_id in (1, 2):
        result = world.result(job_id)
        assert (result.status, result.ended, result.return_code) == ("terminated", "in_grace", 0)


def test_p4_a_shell_that_dies_at_once_does_not_end_the_grace_of_its_saving_child() -> None:
    program = Program(seconds=NEVER, children=(NEVER,), children_save=20.0)
    world = World(job(1), programs={1: program}).until(1.0)
    world.signal(SIGTERM)
    world.until(20.9)
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT"]
    result = world.finish().result(1)
    assert (result.status, result.ended, result.exec_time_seconds) == ("terminated", "in_grace", 21.0)
    assert (result.return_code, result.signal) == (143, "SIGTERM")


def test_p4_a_child_that_ignores_the_signal_is_killed_after_the_grace_though_its_shell_is_gone() -> None:
    program = Program(seconds=NEVER, children=(NEVER,), children_ignore=True)
    world = World(job(1), programs={1: program}).until(1.0)
    world.signal(SIGTERM)
    assert world.finish().signals(1)[-1] == (31.0, "SIGKILL")
    assert world.result(1).ended == "killed"


def test_p14_a_stopped_job_gets_sigcont_after_its_signal_and_saves() -> None:
    world = World(job(1), programs={1: SAVES}).until(1.0)
    world.outside(1, SIGSTOP)
    world.signal(SIGTERM)
    result = world.finish().result(1)
    assert (result.ended, result.return_code) == ("in_grace", 0)
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT"]


def test_p14_control_a_stopped_job_without_sigcont_does_nothing() -> None:
    world = World(job(1), programs={1: SAVES}).until(1.0)
    world.outside(1, SIGSTOP)
    world.outside(1, SIGTERM)
    world.until(1e5)
    assert world.status(1) is Status.RUNNING


def test_scope_leader_signals_the_leader_alone_but_kills_the_whole_group() -> None:
    program = Program(seconds=NEVER, ignores=True, children=(NEVER,), children_save=0.0)
    world = World(job(1, signal_scope="leader"), programs={1: program}).until(1.0)
    world.signal(SIGTERM)
    world.until(2.0)
    assert world.groups[100].members(world.now) == 1, "the child was left alone"
    assert world.finish().signals(1)[-1][1] == "SIGKILL"


def test_a_jobs_own_termination_signal_and_grace_are_used() -> None:
    world = World(
        job(1, termination_signal="SIGUSR2", sigterm_lead_seconds=7.0), job(2), programs={1: DEAF, 2: DEAF}
    )
    world.until(1.0)
    world.signal(SIGTERM)
    world.finish()
    assert world.signals(1) == [(1.0, "SIGUSR2"), (1.0, "SIGCONT"), (8.0, "SIGKILL")]
    assert world.signals(2)[-1] == (31.0, "SIGKILL")


def test_sigkill_as_termination_signal_is_sent_once_even_to_leftovers() -> None:
    program = Program(seconds=3.0, children=(NEVER,), dies_after_kill=8.0)
    world = World(job(1, termination_signal="SIGKILL"), programs={1: program}).finish()
    assert [name for _, name in world.signals(1)] == ["SIGKILL"]
    assert world.result(1).status == "completed"


# -- Ctrl-C ---------------------------------------------------------------------------------------------------


def test_a_second_sigint_kills_at_once() -> None:
    world = World(job(1), job(2), programs={1: DEAF, 2: DEAF}).until(1.0)
    world.signal(SIGINT)
    world.until(2.0)
    world.signal(SIGINT)
    assert world.signals(1) == [(1.0, "SIGTERM"), (1.0, "SIGCONT"), (2.0, "SIGKILL")]
    world.finish(within=1.0)


def test_two_sigints_of_one_key_press_do_not_kill() -> None:
    world = World(job(1), programs={1: SAVES}).until(1.0)
    world.signal(SIGINT)
    world.until(1.199)
    world.signal(SIGINT)
    assert world.finish().result(1).ended == "in_grace"


def test_a_key_that_is_held_down_kills_after_the_guard() -> None:
    world = World(job(1), programs={1: DEAF}).until(1.0)
    for n in range(8):
        world.until(1.0 + n * 0.033)
        world.signal(SIGINT)
    assert world.signals(1)[-1] == (1.231, "SIGKILL")


def test_two_sigterms_never_kill_at_once() -> None:
    world = World(job(1), programs={1: SAVES}).until(1.0)
    world.signal(SIGTERM)
    world.until(2.0)
    world.signal(SIGTERM)
    world.signal(SIGINT)  # the first one
    assert world.finish().result(1).ended == "in_grace"


def test_a_third_sigint_changes_nothing() -> None:
    world = World(job(1), programs={1: Program(NEVER, ignores=True, dies_after_kill=3.0)}).until(1.0)
    for at in (1.0, 2.0, 3.0):
        world.until(at)
        world.signal(SIGINT)
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT", "SIGKILL"]
    world.finish()


# -- P7 -------------------------------------------------------------------------------------------------------


def test_p7_nothing_starts_once_termination_was_asked_for() -> None:
    world = World(job(1), job(2), job(3), capacity=Capacity(1, 1 << 40, 0), programs={1: SAVES}).until(1.0)
    world.signal(SIGTERM)
    world.finish()
    assert [job_id for _, job_id in world.starts] == [1]
    assert [world.status(j) for j in (1, 2, 3)] == [Status.TERMINATED, Status.READY, Status.READY]


def test_p7_control_without_the_signal_the_others_start() -> None:
    world = World(job(1), job(2), job(3), capacity=Capacity(1, 1 << 40, 0)).finish()
    assert [job_id for _, job_id in world.starts] == [1, 2, 3]


@pytest.mark.parametrize(("interrupts", "expected"), [(1, ["SIGTERM", "SIGCONT"]), (2, ["SIGKILL"])])
def test_p7_a_job_caught_in_the_act_of_starting_is_signalled_too(
    interrupts: int, expected: list[str]
) -> None:
    world = World(capacity=Capacity(1, 1 << 40, 0), state=_one_blocked())
    supervision = world.supervision
    supervision._scheduler.add([world.state.job(1)])
    world.programs[1] = SAVES
    assert supervision.start_next()  # the order is given, nobody has carried it out
    for n in range(interrupts):
        supervision.at(world.now + n, "t")
        supervision.on_signal(SIGINT)
    world.hurried = interrupts == 2
    orders = supervision.take_orders()
    supervision.take_orders()
    world.groups.clear()
    world.records.clear()
    for order in orders:
        if type(order).__name__ == "Start":
            world._start(order)
    world._obey()
    assert [name for _, name in world.signals(1)] == expected


def _one_blocked() -> WorkflowState:
    """A state with one job that no scheduler knows of yet."""
    from support.replaying import state_of

    state = state_of(job(1))
    state._set(1, Status.BLOCKED)
    return state


# -- wall time ------------------------------------------------------------------------------------------------


def test_without_any_signal_each_job_is_asked_its_own_lead_before_the_end() -> None:
    short, long = job(1, sigterm_lead_seconds=20.0), job(2, sigterm_lead_seconds=300.0)
    cannot = job(3, supports_termination=False)
    world = World(short, long, cannot, end=3600.0, programs={1: DEAF, 2: DEAF, 3: FOREVER}).finish()
    kill = 3600.0 - 60.0
    assert world.signals(1) == [(kill - 20, "SIGTERM"), (kill - 20, "SIGCONT"), (kill, "SIGKILL")]
    assert world.signals(2) == [(kill - 300, "SIGTERM"), (kill - 300, "SIGCONT"), (kill, "SIGKILL")]
    assert world.signals(3) == [(kill, "SIGKILL")]
    for job_id in (1, 2, 3):
        result = world.result(job_id)
        assert (result.status, result.return_code, result.why) == ("terminated", 152, "wall_time")


def test_a_signal_with_a_known_end_leaves_the_paid_time_to_save() -> None:
    world = World(job(1), job(2, sigterm_lead_seconds=10.0), end=3600.0, programs={1: DEAF, 2: DEAF})
    world.until(3300.0)
    world.signal(SIGTERM)
    world.finish()
    assert world.signals(1)[-1] == (3540.0, "SIGKILL")
    assert world.signals(2)[-1] == (3310.0, "SIGKILL"), "a grace that a person stated shortens it"
    assert world.result(1).return_code == 152


def test_a_signal_after_wall_time_closed_the_run_still_reaches_the_jobs_that_compute_on() -> None:
    world = World(
        job(1, sigterm_lead_seconds=600.0), job(2), end=3600.0, programs={1: SAVES, 2: SAVES}
    ).until(3000.0)
    assert world.signals(1), "the first was asked"
    assert world.signals(2) == [], "the second computes on"
    world.signal(SIGTERM)
    assert world.signals(2) == [(3000.0, "SIGTERM"), (3000.0, "SIGCONT")]
    world.finish(within=10.0)
    assert world.signals(1)[0] == (2940.0, "SIGTERM")


def test_a_cancel_after_wall_time_closed_the_run_is_carried_out() -> None:
    world = World(job(1, sigterm_lead_seconds=600.0), job(2), end=3600.0, programs={1: DEAF, 2: SAVES}).until(
        3000.0
    )
    world.cancel()
    world.finish()
    assert (world.result(1).status, world.result(2).status) == ("terminated", "canceled")
    assert world.signals(1)[-1] == (3540.0, "SIGKILL"), "never lengthened, nor shortened"


def test_nothing_starts_when_the_end_is_near() -> None:
    world = World(
        job(1),
        job(2, depends_on=(1,)),
        end=3600.0,
        programs={1: Program(seconds=3520.0, ignores=True)},
    ).finish()
    assert world.status(1) is Status.TERMINATED
    world = World(job(1), job(2, depends_on=(1,)), end=3600.0, programs={1: Program(seconds=3510.0)}).finish()
    assert (world.status(1), world.status(2)) == (Status.COMPLETED, Status.READY)
    assert world.state.outcome() is RunState.TERMINATED


def test_a_job_that_would_be_asked_to_end_at_once_is_not_started() -> None:
    world = World(
        job(1),
        job(2, depends_on=(1,), sigterm_lead_seconds=600.0),
        job(3, depends_on=(1,)),
        end=3600.0,
        programs={1: Program(seconds=3000.0)},
    ).finish()
    assert [job_id for _, job_id in world.starts] == [1, 3]
    assert world.status(2) is Status.READY


def test_a_stated_runtime_that_does_not_fit_keeps_the_job_for_the_next_run() -> None:
    runtime = Requirements(runtime_seconds=3599.0)
    world = World(
        job(1), job(2, supports_termination=False, depends_on=(1,), requirements=runtime), end=3600.0
    ).finish()
    assert (world.status(1), world.status(2)) == (Status.COMPLETED, Status.READY)
    assert world.resume().finish().status(2) is Status.COMPLETED


def test_a_short_allocation_shares_its_time_between_work_grace_and_headroom() -> None:
    world = World(job(1), end=60.0, programs={1: DEAF}).finish(within=60.0)
    (asked, _), _, (killed, _) = world.signals(1)
    assert (asked, killed) == (20.0, 50.0)


def test_a_supervisor_that_was_held_up_still_gives_the_grace_that_time_allows() -> None:
    world = World(job(1), end=3600.0, programs={1: SAVES}).until(10.0)
    world.jump(3540.0)  # awake again at 3550: even the moment of SIGKILL has passed
    world.finish()
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT"]
    assert world.result(1).ended == "in_grace"


def test_a_supervisor_that_was_held_up_for_a_part_of_the_grace_gives_the_whole_of_it() -> None:
    limited = job(1, requirements=Requirements(runtime_seconds=3.0))
    world = World(limited, programs={1: DEAF})
    world.jump(20.0)
    world.finish()
    assert world.signals(1) == [(20.0, "SIGTERM"), (20.0, "SIGCONT"), (50.0, "SIGKILL")]


def test_p12_a_supervisor_that_wakes_after_the_end_kills_what_is_left() -> None:
    world = World(job(1), end=3600.0, programs={1: DEAF}).until(10.0)
    world.jump(5000.0)
    world.finish(within=1.0)
    assert world.result(1).ended == "killed"


# -- limits of the job ------------------------------------------------------------------------------------------


def test_a_runtime_limit_asks_waits_one_grace_and_kills() -> None:
    limited = job(1, requirements=Requirements(runtime_seconds=100.0))
    world = World(limited, job(2), programs={1: DEAF, 2: Program(seconds=500.0)}).finish()
    assert world.signals(1) == [(100.0, "SIGTERM"), (100.0, "SIGCONT"), (130.0, "SIGKILL")]
    assert (world.result(1).return_code, world.result(1).why) == (152, "runtime_limit")
    assert world.result(2).status == "completed", "the others go on"
    assert not world.of(r.TerminationStarted)


def test_limits_are_not_enforced_where_limit_resources_is_false() -> None:
    limited = job(1, requirements=Requirements(runtime_seconds=100.0))
    world = World(
        limited, programs={1: Program(seconds=200.0)}, execution=ExecutionConfig(limit_resources=False)
    )
    assert world.finish().result(1).status == "completed"


def test_a_memory_limit_kills_and_fails_with_137() -> None:
    world = World(job(1), job(2, depends_on=(1,)), programs={1: FOREVER}).until(5.0)
    world.sample(1, 1 << 30, at_limit=False)
    world.sample(1, 3 << 30, at_limit=True)
    world.sample(1, 4 << 30, at_limit=True)
    result = world.finish().result(1)
    assert [name for _, name in world.signals(1)] == ["SIGKILL"]
    assert (result.status, result.return_code, result.why) == ("failed", 137, "memory_limit")
    assert (result.peak_memory_bytes, result.avg_memory_bytes) == (4 << 30, (8 << 30) // 3)
    assert world.status(2) is Status.CANCELED


def test_a_sample_of_a_job_that_is_over_is_dropped() -> None:
    world = World(job(1), job(2, depends_on=(1,))).until(11.0)
    world.sample(1, 1, at_limit=True)
    assert world.finish().result(1).peak_memory_bytes is None


# -- P11 ------------------------------------------------------------------------------------------------------


def test_p11_a_full_machine_puts_the_job_back_with_a_growing_pause() -> None:
    world = World(job(1), programs={1: Program(starts=("refused",) * 6)}).finish()
    pauses = [b[0] - a[0] for a, b in zip(world.starts, world.starts[1:], strict=False)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    assert world.result(1).status == "completed"
    assert world.result(1).attempt_id == 1, "no attempt was counted"
    assert [w.code for w in world.of(r.Warned)] == ["machine_full", "machine_full"]


def test_p11_the_pause_is_bounded_and_forgotten_after_a_success() -> None:
    world = World(
        job(1),
        job(2, depends_on=(1,)),
        programs={1: Program(starts=("refused",) * 12), 2: Program(starts=("refused",))},
    ).finish()
    pauses = [b[0] - a[0] for a, b in zip(world.starts, world.starts[1:], strict=False)]
    assert max(pauses) == pytest.approx(10.0)
    assert pauses[-1] == pytest.approx(0.05)


def test_p11_a_termination_during_the_pause_ends_the_run() -> None:
    world = World(job(1), programs={1: Program(starts=("refused",) * 100)}).until(5.0)
    world.signal(SIGTERM)
    world.finish(within=0.0)
    assert world.status(1) is Status.READY


def test_p11_only_what_is_the_jobs_own_fault_fails_it() -> None:
    world = World(job(1), job(2, depends_on=(1,)), programs={1: Program(starts=("failed",))}).finish()
    result = world.result(1)
    assert (result.status, result.ended, result.return_code) == ("failed", "not_started", 126)
    assert result.error == "bash: no such file"
    assert world.status(2) is Status.CANCELED
    assert world.of(r.JobsCanceled)[0].job_ids == (2,)


# -- leftovers ------------------------------------------------------------------------------------------------


def test_a_job_that_exits_and_leaves_members_keeps_its_status_and_they_are_ended() -> None:
    world = World(job(1), programs={1: Program(children=(NEVER, NEVER))}).finish()
    result = world.result(1)
    assert (result.status, result.ended, result.leftovers) == ("completed", "exited", 2)
    assert world.signals(1) == [(10.0, "SIGTERM"), (10.0, "SIGCONT")]
    assert [w.code for w in world.of(r.Warned)] == ["leftovers"]


def test_leftovers_that_ignore_the_signal_are_killed_after_a_short_grace() -> None:
    world = World(job(1), programs={1: Program(children=(NEVER,), children_ignore=True)}).finish()
    assert world.signals(1)[-1] == (15.0, "SIGKILL")
    assert (world.result(1).status, world.result(1).return_code) == ("completed", 0)


def test_leftovers_get_no_second_signal_when_the_run_is_asked_to_end() -> None:
    world = World(job(1), programs={1: Program(children=(NEVER,), children_ignore=True)}).until(12.0)
    world.signal(SIGTERM)
    world.finish()
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT", "SIGKILL"]
    assert world.result(1).status == "completed"


def test_leftovers_are_gone_before_the_allocation_is() -> None:
    slow = Program(seconds=3538.0, children=(NEVER,), children_ignore=True)
    cannot = job(1, supports_termination=False)
    world = World(cannot, end=3600.0, programs={1: slow}).finish()
    assert world.signals(1)[-1] == (3540.0, "SIGKILL")


# -- P12 ------------------------------------------------------------------------------------------------------


def test_p12_a_job_in_uninterruptible_sleep_is_recorded_as_unkillable_and_the_run_ends() -> None:
    world = World(job(1), programs={1: Program(NEVER, ignores=True, dies_after_kill=NEVER)}).until(1.0)
    world.signal(SIGTERM)
    world.finish(within=30.0 + 10.0)
    result = world.result(1)
    assert (result.status, result.ended, result.return_code, result.signal) == (
        "terminated",
        "unkillable",
        None,
        None,
    )


def test_p12_what_was_unkillable_frees_its_resources_and_its_zombie_is_collected_later() -> None:
    stuck = Program(NEVER, dies_after_kill=100.0)
    limited = Requirements(runtime_seconds=5.0)
    world = World(
        job(1, supports_termination=False, requirements=limited),
        job(2),
        capacity=Capacity(1, 1 << 40, 0),
        programs={1: stuck, 2: Program(seconds=500.0)},
    ).until(15.0)
    assert isinstance(world.supervision.phase(1), Abandoned)
    assert world.starts[-1] == (world.start + 15.0, 2), "its CPU is free again"
    world.finish()
    assert world.result(1).ended == "unkillable"
    assert world.groups[world.by_job[1][0]].reaped, "P3: the zombie was collected when it died after all"
    world.check_books()


def test_p3_the_zombie_of_an_abandoned_job_is_collected_when_its_last_member_dies() -> None:
    program = Program(seconds=2.0, children=(NEVER,), children_ignore=True, dies_after_kill=100.0)
    world = World(job(1), job(2), programs={1: program, 2: Program(seconds=500.0)}).finish()
    assert world.result(1).ended == "unkillable"
    assert world.result(1).return_code == 0, "its own exit was seen"
    assert world.groups[world.by_job[1][0]].reaped


def test_p12_unkillable_leftovers_free_the_resources_of_their_job() -> None:
    program = Program(seconds=2.0, children=(NEVER,), children_ignore=True, dies_after_kill=NEVER)
    world = World(job(1), job(2), capacity=Capacity(1, 1 << 40, 0), programs={1: program}).finish()
    assert [at - world.start for at, _ in world.starts] == [0.0, 2.0 + 5.0 + 10.0]
    assert world.scheduler.holding == 0


@pytest.mark.parametrize("asked_at", [5.0, 12.0, 200.0])
def test_p12_a_hung_file_system_does_not_hold_up_a_run_that_wants_to_end(asked_at: float) -> None:
    hung = Program(verify_after=NEVER)
    world = World(job(1, output_files=("out",)), programs={1: hung}, files={"out": "out"}).until(asked_at)
    world.signal(SIGTERM)
    world.finish(within=30.0 + 30.0)
    world.check_books()


def test_p12_a_checkpoint_that_cannot_be_looked_at_does_not_hold_up_the_end() -> None:
    hung = Program(seconds=NEVER, saves=2.0, verify_after=NEVER)
    world = World(job(1, checkpoint="model.pt"), programs={1: hung}).until(5.0)
    world.signal(SIGTERM)
    world.finish(within=2.0 + 30.0)
    assert world.result(1).checkpoint_saved is None


def test_p12_verification_ends_before_the_allocation_does() -> None:
    hung = Program(seconds=NEVER, ignores=True, verify_after=NEVER)
    world = World(job(1, checkpoint="model.pt"), end=40.0, programs={1: hung}).finish(within=40.0)
    assert world.result(1).ended == "killed"


def test_p12_an_unanswered_question_about_outputs_ends_after_a_limit() -> None:
    world = World(
        job(1, output_files=("out",)), programs={1: Program(verify_after=NEVER)}, files={"out": "out"}
    )
    world.until(11.0)
    assert isinstance(world.supervision.phase(1), Verifying)
    world.finish(within=700.0)
    assert [w.code for w in world.of(r.Warned)] == ["unverified"]


def test_p12_a_ready_job_that_can_never_fit_does_not_hold_up_the_run() -> None:
    big = job(1, requirements=Requirements(num_cpus=99))
    world = World(big, job(2), capacity=Capacity(4, 1 << 40, 0)).finish()
    assert (world.status(1), world.status(2)) == (Status.READY, Status.COMPLETED)


# -- declared files ---------------------------------------------------------------------------------------------


def test_a_missing_output_fails_the_job_with_return_code_1_and_cancels_dependents() -> None:
    program = Program(verify_after=3.0, verified=Verified(missing=("out",)))
    world = World(
        job(1, output_files=("out",)),
        job(2, depends_on=(1,)),
        programs={1: program},
        files={"out": "out.txt"},
    ).finish()
    result = world.result(1)
    assert (result.status, result.return_code, result.missing_outputs) == ("failed", 1, ("out",))
    assert result.exec_time_seconds == 10.0, "looking at files is not its time"
    assert world.status(2) is Status.CANCELED
    assert [w.code for w in world.of(r.Warned)] == ["missing_outputs"]


def test_resources_are_free_while_files_are_looked_at() -> None:
    world = World(
        job(1, output_files=("out",)),
        job(2),
        capacity=Capacity(1, 1 << 40, 0),
        programs={1: Program(verify_after=50.0)},
        files={"out": "out"},
    ).finish()
    assert [at - world.start for at, _ in world.starts] == [0.0, 10.0]


def test_dependents_wait_for_the_answer_about_outputs() -> None:
    world = World(
        job(1, output_files=("out",)),
        job(2, depends_on=(1,)),
        programs={1: Program(verify_after=50.0, verified=Verified(seen=(("out", 7),)))},
        files={"out": "out"},
    ).finish()
    assert [at - world.start for at, _ in world.starts] == [0.0, 60.0]
    assert world.state.files_seen == {"out": 7}


def test_an_answer_that_comes_twice_or_too_late_is_ignored() -> None:
    world = World(job(1, output_files=("out",)), job(2), files={"out": "out"}).until(10.0)
    world.supervision.on_verified(1, Verified(missing=("out",)))
    assert world.finish().result(1).status == "completed"


# -- cancel and resume ------------------------------------------------------------------------------------------


def test_cancel_ends_running_jobs_as_canceled_and_starts_nothing_more() -> None:
    world = World(job(1), job(2), job(3, depends_on=(1,)), capacity=Capacity(1, 1 << 40, 0)).until(1.0)
    world.cancel()
    world.cancel()
    world.finish()
    assert [world.status(j) for j in (1, 2, 3)] == [Status.CANCELED, Status.READY, Status.CANCELED]
    assert world.state.outcome() is RunState.CANCELED
    assert len(world.of(r.WorkflowCanceled)) == 1


@pytest.mark.parametrize("program", [DEAF, SAVES], ids=["deaf", "saves"])
def test_a_signal_that_turns_out_to_be_a_cancel_is_recorded_as_one(program: Program) -> None:
    world = World(job(1), job(2, supports_termination=False), programs={1: program, 2: DEAF}).until(1.0)
    world.supervision.on_signal(SIGTERM)  # the cancel is in the same turn: nothing has ended yet
    world.cancel()
    world.cancel()
    world.finish()
    assert [world.result(j).status for j in (1, 2)] == ["canceled", "canceled"]
    assert [world.result(j).why for j in (1, 2)] == ["cancel", "cancel"]
    assert world.state.outcome() is RunState.CANCELED
    assert [name for _, name in world.signals(1)].count("SIGTERM") == 1, "and nobody is asked twice"


def test_who_has_lost_the_workflow_to_another_supervisor_asks_its_jobs_to_end_once() -> None:
    world = World(job(1), job(2, supports_termination=False), programs={1: SAVES, 2: DEAF}).until(1.0)
    for _ in range(2):
        world.supervision.on_owner_changed("'torc-supervise run' (pid 1 on node2)")
    world.finish()
    assert [name for _, name in world.signals(1)] == ["SIGTERM", "SIGCONT"]
    assert [name for _, name in world.signals(2)] == ["SIGKILL"]
    assert [world.result(j).why for j in (1, 2)] == ["owner_changed", "owner_changed"]
    assert "the workflow belongs to 'torc-supervise run' (pid 1 on node2) now" in world.said[0]


def test_a_cancel_after_a_signal_leaves_alone_what_a_limit_has_ended() -> None:
    limited = job(1, requirements=Requirements(runtime_seconds=5.0))
    world = World(limited, job(2), programs={1: DEAF, 2: SAVES}).until(6.0)
    world.signal(SIGTERM)
    world.cancel()
    world.finish()
    assert (world.result(1).why, world.result(2).why) == ("runtime_limit", "cancel")


def test_a_resumed_run_goes_on_with_terminated_jobs_and_their_dependents() -> None:
    world = World(job(1), job(2), job(3, depends_on=(1, 2)), programs={1: SAVES, 2: Program(2.0)}).until(5.0)
    world.signal(SIGTERM)
    world.finish()
    again = world.resume().finish()
    assert [job_id for _, job_id in again.starts] == [1, 3], "what was completed is not run again"
    assert (again.result(1).run_id, again.result(1).attempt_id) == (2, 1)
    assert again.state.outcome() is RunState.COMPLETED


def test_the_ending_says_how_many_were_asked_and_how_long_it_may_take() -> None:
    world = World(job(1), job(2, supports_termination=False), programs={1: DEAF, 2: FOREVER}).until(1.0)
    world.signal(SIGINT)
    record = world.of(r.TerminationStarted)[0]
    assert (record.asked, record.killed, record.wait_seconds, record.why) == (1, 1, 30.0, "signal")
    assert "1 job asked to save, 1 killed, waiting up to 30 s" in world.said[-1]
    assert record.why == StopReason.SIGNAL
    assert world.signals(2) == [(1.0, "SIGKILL")]


def test_p13_a_wall_clock_that_jumps_moves_no_deadline() -> None:
    """Control: the records do carry its times."""

    class Jumping(World):
        def _at(self) -> None:
            self.supervision.at(self.now, f"2026-01-01T{99 - self.turns % 90:02d}")  # runs backwards

    worlds = [kind(job(1), programs={1: DEAF}, end=600.0).finish() for kind in (World, Jumping)]
    assert worlds[0].signals(1) == worlds[1].signals(1) != []
    assert worlds[0].result(1).start_time != worlds[1].result(1).start_time
    assert worlds[0].result(1).exec_time_seconds == worlds[1].result(1).exec_time_seconds
