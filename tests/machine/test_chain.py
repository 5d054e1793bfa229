"""The chain of allocations: when the next one is queued, when it stops, and what is taken out of the queue again."""

from __future__ import annotations

from signal import SIGINT, SIGTERM, SIGUSR1
from typing import Any

import pytest

from support.errands import Office
from support.replaying import NEVER, Program, job
from torc_supervise.machine import records as r
from torc_supervise.machine.chain import ASK_AGAIN_AFTER, Chain
from torc_supervise.machine.events import Verified
from torc_supervise.machine.next_allocation import RESERVE, BatchPlace, NextAllocation
from torc_supervise.machine.status import RunState, Status
from torc_supervise.machine.unneeded import Unneeded
from torc_supervise.workflow.model import ExecutionConfig, Requirements
from torc_supervise.workflow.signals import parse_signal_spec

END = 1000.0
SAVES = Program(NEVER, saves=5.0, verified=Verified(checkpoint_saved=True))
FORGETS = Program(NEVER, saves=5.0, verified=Verified(checkpoint_saved=False))
QUEUED = {"slurm_job_id": "8", "scheduler": "small", "script": "/s.sh", "output": "/o", "error": "/e"}


def office(
    *programs: Program,
    auto_resubmit: int = 3,
    signal: str | None = None,
    end: float | None = END,
    checkpoint: str | None = "ckpt",
    before: tuple[r.Record, ...] = (),
    **fields: Any,
) -> Office:
    """Jobs with these programs in allocation 7, which asks to end them at 910 s and kills at 940 s."""
    allocations = NextAllocation(BatchPlace("/out", 1), "7", "small", auto_resubmit)
    spec = parse_signal_spec(signal) if signal is not None else None
    chain = Chain(allocations, spec, lambda job: job.scheduler != "other")
    jobs = [job(number, checkpoint=checkpoint, **fields) for number, _ in enumerate(programs, 1)]
    world = Office(
        *jobs,
        programs=dict(enumerate(programs, 1)),
        errands=[chain, allocations, Unneeded(allocations)],
        end=end,
        execution=ExecutionConfig(sigkill_headroom_seconds=60.0),
    )
    for record in before:
        world.supervision.write(record)
    if auto_resubmit and checkpoint is not None:
        world.answer("look_at_files", seen={"1": [1, 1, 1]})
    return world


def test_the_next_allocation_is_queued_when_the_wall_time_ended_this_one() -> None:
    world = office(SAVES).until(950.0)
    ((at, body),) = world.asked("submit")
    assert at == 915.0, "as soon as it is known that the job has saved"
    assert body == {
        "output": "/out",
        "workflow_id": 1,
        "scheduler": "small",
        "after": "7",
        "auto_resubmit": 2,
        "max_parallel_jobs": None,
        "within": END - RESERVE - 915.0,
    }
    assert not world.supervision.done, "it waits for sbatch"
    world.answer("submit", **QUEUED, auto_resubmit=2)
    assert world.supervision.done
    (record,) = world.of(r.AllocationSubmitted)
    assert (record.why, record.after, record.auto_resubmit) == ("auto_resubmit", "7", 2)
    assert any("allocation 8 is queued" in text for text in world.said)


def test_a_job_that_completed_is_progress_enough_at_once() -> None:
    world = office(Program(100.0), FORGETS).until(920.0)
    assert [at for at, _ in world.asked("submit")] == [910.0]


def test_no_progress_stops_the_chain_and_says_so() -> None:
    world = office(FORGETS).until(920.0)
    assert world.asked("submit") == []
    assert len(world.asked("look_at_files")) == 2
    world.answer("look_at_files", seen={"1": [1, 1, 1]})
    world.finish()
    assert world.asked("submit") == []
    assert world.warnings() == ["no_progress"]
    assert "torc-supervise submit 1" in world.of(r.Warned)[0].message


def test_a_checkpoint_that_is_newer_than_at_the_start_is_progress() -> None:
    """The job saves now and then, and was killed without doing so once more."""
    world = office(Program(NEVER, ignores=True)).until(950.0)
    world.answer("look_at_files", seen={"1": [2, 1, 5]})
    assert len(world.asked("submit")) == 1


def test_jobs_without_checkpoints_make_progress_by_completing_only() -> None:
    world = office(Program(NEVER, saves=1.0), checkpoint=None).finish()
    assert world.asked("look_at_files") == []
    assert world.warnings() == ["no_progress"]


def test_the_last_of_the_chain_queues_nothing_and_looks_at_nothing() -> None:
    world = office(SAVES, auto_resubmit=0).finish()
    assert world.chores == []
    assert world.warnings() == []


def test_a_run_that_completes_is_followed_by_nothing() -> None:
    world = office(Program(10.0)).finish()
    assert world.asked("submit") == []
    assert world.warnings() == []


def test_work_that_did_not_fit_into_the_rest_of_the_time_is_work_left() -> None:
    allocations = NextAllocation(BatchPlace("/out", 1), "7", "small", 3)
    needs = Requirements(runtime_seconds=900.0)
    long = job(2, supports_termination=False, requirements=needs, depends_on=(1,))
    world = Office(
        job(1), long, programs={1: Program(500.0)}, errands=[Chain(allocations), allocations], end=END
    ).until(600.0)
    assert len(world.asked("submit")) == 1
    world.answer("submit", **QUEUED, auto_resubmit=2)
    assert world.finish().status(2) is Status.READY


def test_work_for_another_kind_of_allocation_is_not_ours() -> None:
    world = office(SAVES, scheduler="other").finish()
    assert world.asked("submit") == []


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signal", "signum"), [("B:USR1@120", SIGUSR1), ("B:TERM@120", SIGTERM)])
@pytest.mark.parametrize("at", [820.0, 880.0, 900.0])
def test_slurms_warning_is_the_wall_time(signal: str, signum: int, at: float) -> None:
    world = office(SAVES, signal=signal).until(at)
    world.signal(signum)
    world.until(at + 6.0)
    assert world.asked("submit") == [], "until Slurm says that the job still runs"
    assert len(world.asked("ask_slurm")) == 1
    world.answer("ask_slurm", running=True, state="RUNNING")
    assert len(world.asked("submit")) == 1
    world.answer("submit", **QUEUED, auto_resubmit=2)
    world.finish()


def test_the_signal_of_the_limit_itself_is_the_wall_time() -> None:
    """Slurm sends it whatever was asked for; this one comes to jobs that have ended and a run that has not."""
    world = office(Program(100.0), Program(NEVER, saves=89.0)).until(911.0)
    world.answer("submit", **QUEUED, auto_resubmit=2)
    world.until(939.0)
    world.jump(END - 939.0)
    world.signal(SIGTERM)
    world.finish()
    assert world.asked("scancel") == []


@pytest.mark.parametrize(
    ("signal", "signum", "at"),
    [
        (None, SIGTERM, 500.0),  # scancel, or kill
        ("B:USR1@120", SIGTERM, 900.0),  # not the signal that was asked for
        ("B:TERM@120", SIGTERM, 500.0),  # much too early
        ("B:TERM@120", SIGINT, 900.0),
    ],
)
def test_whoever_ends_an_allocation_by_hand_is_not_followed(
    signal: str | None, signum: int, at: float
) -> None:
    world = office(SAVES, signal=signal).until(at)
    world.signal(signum)
    world.finish()
    assert world.asked("submit") == []
    assert world.asked("ask_slurm") == []
    assert world.warnings() == []
    assert any("was not the end of the wall time" in text for text in world.said)


def test_a_cancel_within_the_time_of_the_warning_is_not_followed() -> None:
    world = office(SAVES, signal="B:TERM@120").until(890.0)
    world.signal(SIGTERM)
    world.answer("ask_slurm", running=False, state="COMPLETING")
    world.finish()
    assert world.asked("submit") == []


def test_a_workflow_that_is_canceled_is_not_followed() -> None:
    world = office(SAVES).until(890.0)
    world.cancel()
    assert world.finish().asked("submit") == []


def test_a_cancel_after_the_next_one_was_queued_takes_it_back() -> None:
    world = office(Program(100.0), Program(NEVER, saves=20.0)).until(911.0)
    world.answer("submit", **QUEUED, auto_resubmit=2)
    world.signal(SIGTERM)
    world.until(940.0)
    assert [body["job_ids"] for _, body in world.asked("scancel")] == [["8"]]
    world.answer("scancel")
    world.finish()
    assert [(x.slurm_job_id, x.how) for x in world.of(r.AllocationEnded)] == [("8", "canceled")]


def test_a_warning_after_the_next_one_was_queued_changes_nothing() -> None:
    world = office(Program(100.0), Program(NEVER, saves=20.0), signal="B:TERM@60").until(911.0)
    world.answer("submit", **QUEUED, auto_resubmit=2)
    world.signal(SIGTERM)
    world.answer("ask_slurm", running=True)
    world.finish()
    assert world.asked("scancel") == []


def test_a_slurm_that_does_not_answer_is_asked_again() -> None:
    world = office(SAVES, signal="B:TERM@120").until(880.0)
    world.signal(SIGTERM)
    world.answer("ask_slurm", ok=False)
    world.until(890.0)
    assert [at for at, _ in world.asked("ask_slurm")] == [880.0, 880.0 + ASK_AGAIN_AFTER]
    world.answer("ask_slurm", running=True)
    assert len(world.asked("submit")) == 1
    world.answer("submit", ok=False, message="Slurm's controller does not answer")
    world.finish()
    assert world.warnings() == ["not_resubmitted"]


def test_p12_slurm_is_waited_for_while_there_is_time_and_no_longer() -> None:
    world = office(SAVES, signal="B:TERM@120").until(880.0)
    world.signal(SIGTERM)
    world.finish(within=END - RESERVE - 880.0)
    assert world.warnings() == ["not_resubmitted"]
    world = office(SAVES).until(930.0)
    world.finish(within=END - RESERVE - 930.0)
    assert world.warnings() == ["not_resubmitted"]


def test_p12_a_file_system_that_hangs_at_a_checkpoint_is_not_waited_for_without_end() -> None:
    world = office(FORGETS).until(920.0)
    world.finish(within=END - RESERVE - 920.0)
    assert world.warnings() == ["not_resubmitted"]
    assert "whether a checkpoint was saved" in world.of(r.Warned)[0].message


# -- what is not needed any more ------------------------------------------------------------------------------------

WAITS = r.AllocationSubmitted("9", "action", "gpu", after="7")


def test_allocations_that_wait_for_a_complete_workflow_are_canceled() -> None:
    world = office(Program(10.0), before=(WAITS,)).until(20.0)
    assert [body["job_ids"] for _, body in world.asked("scancel")] == [["9"]]
    assert not world.supervision.done
    world.answer("scancel")
    assert world.supervision.done
    assert world.of(r.AllocationEnded) == [r.AllocationEnded("9", "canceled", "nothing is left to do")]
    assert world.state.outcome() is RunState.COMPLETED


@pytest.mark.parametrize("code", [0, 1])
def test_they_are_canceled_too_where_nothing_more_can_be_run(code: int) -> None:
    world = office(Program(10.0, code=code), before=(WAITS,)).until(20.0)
    assert len(world.asked("scancel")) == 1


def test_they_are_kept_while_work_is_left() -> None:
    world = office(SAVES, before=(WAITS,)).finish()
    assert world.asked("scancel") == []
    assert world.asked("submit") == [], "one is queued already"


def test_slurm_that_does_not_hear_of_it_is_a_warning() -> None:
    world = office(Program(10.0), before=(WAITS,)).finish(within=100.0)
    assert world.warnings() == ["still_queued"]
    world = office(Program(10.0), before=(WAITS,)).until(20.0)
    world.answer("scancel", ok=False, message="no")
    world.finish()
    assert world.warnings() == ["still_queued"]
