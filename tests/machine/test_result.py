"""From what became of the processes to status, return code, signal and how it ended (DESIGN section 4)."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGTERM, Signals

import pytest
from msgspec.structs import replace

from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import Outcome
from torc_supervise.machine.records import JobEnded
from torc_supervise.machine.result import (
    AttemptKey,
    ReturnCodes,
    complaints,
    job_ended,
    not_started,
    shell_code,
    signal_name,
)
from torc_supervise.machine.sampling import Samples
from torc_supervise.machine.status import StopReason
from torc_supervise.workflow.model import Job

KEY = AttemptKey(3, 7, 2, "2026-01-01T00:00:00.000000Z")


def result(
    exit_: Exit | None,
    why: StopReason | None = None,
    *,
    killed: bool = False,
    unkillable: bool = False,
    end_known: bool = False,
    verified: Verified | None = None,
    codes: ReturnCodes = ReturnCodes(),  # noqa: B008 - immutable
) -> JobEnded:
    outcome = Outcome(exit_, 112.5, why, killed=killed, unkillable=unkillable)
    return job_ended(KEY, outcome, 100.0, codes, end_known=end_known, verified=verified)


def told(record: JobEnded) -> tuple[str, int | None, str | None, str]:
    return record.status, record.return_code, record.signal, record.ended


@pytest.mark.parametrize("code", range(256))
def test_a_natural_exit_keeps_its_own_code(code: int) -> None:
    assert told(result(Exited(code))) == ("completed" if code == 0 else "failed", code, None, "exited")


@pytest.mark.parametrize("code", range(256))
def test_an_exit_in_the_grace_is_terminated_whatever_its_code(code: int) -> None:
    assert told(result(Exited(code), StopReason.SIGNAL)) == ("terminated", code, None, "in_grace")


@pytest.mark.parametrize("signum", sorted(Signals))
def test_death_by_signal_n_is_128_plus_n_with_its_name(signum: Signals) -> None:
    record = result(Signaled(signum))
    assert told(record) == ("failed", 128 + signum, signum.name, "exited")


def test_a_signal_without_a_name_is_said_by_its_number() -> None:
    assert signal_name(40) == "SIG40"
    assert shell_code(Signaled(40)) == 168
    assert shell_code(None) is None


DEAD = Signaled(SIGKILL)


@pytest.mark.parametrize(
    ("why", "end_known", "expected"),
    [
        (StopReason.SIGNAL, False, ("terminated", 137)),
        (StopReason.SIGNAL, True, ("terminated", 152)),  # Slurm's warning is its limit on time
        (StopReason.WALL_TIME, True, ("terminated", 152)),
        (StopReason.RUNTIME_LIMIT, False, ("terminated", 152)),
        (StopReason.RUNTIME_LIMIT, True, ("terminated", 152)),
        (StopReason.MEMORY_LIMIT, False, ("failed", 137)),
        (StopReason.MEMORY_LIMIT, True, ("failed", 137)),
        (StopReason.CANCEL, False, ("canceled", 137)),
        (StopReason.CANCEL, True, ("canceled", 137)),
    ],
)
def test_death_by_our_sigkill(why: StopReason, end_known: bool, expected: tuple[str, int]) -> None:
    record = result(DEAD, why, killed=True, end_known=end_known)
    assert told(record) == (*expected, "SIGKILL", "killed")
    assert record.why == why.value


@pytest.mark.parametrize(
    ("why", "status"),
    [
        (StopReason.SIGNAL, "terminated"),
        (StopReason.WALL_TIME, "terminated"),
        (StopReason.RUNTIME_LIMIT, "terminated"),
        (StopReason.CANCEL, "canceled"),
        (StopReason.MEMORY_LIMIT, "failed"),
    ],
)
def test_death_of_the_termination_signal_itself(why: StopReason, status: str) -> None:
    assert told(result(Signaled(SIGTERM), why, end_known=True)) == (status, 143, "SIGTERM", "in_grace")


def test_configured_codes_stand_for_limits() -> None:
    codes = ReturnCodes(timeout=99, oom=98)
    assert result(DEAD, StopReason.WALL_TIME, killed=True, codes=codes).return_code == 99
    assert result(DEAD, StopReason.MEMORY_LIMIT, killed=True, codes=codes).return_code == 98
    assert result(DEAD, StopReason.CANCEL, killed=True, codes=codes).return_code == 137


def test_a_leader_that_saved_while_a_child_had_to_be_killed_counts_as_killed() -> None:
    assert told(result(Exited(0), StopReason.WALL_TIME, killed=True)) == (
        "terminated",
        152,
        "SIGKILL",
        "killed",
    )


def test_unkillable_has_no_return_code_because_nobody_saw_one() -> None:
    record = result(None, StopReason.WALL_TIME, killed=True, unkillable=True, end_known=True)
    assert told(record) == ("terminated", None, None, "unkillable")
    assert told(result(Exited(0), None, unkillable=True)) == ("completed", 0, None, "unkillable")


def test_sigkill_by_somebody_else_is_a_failure_of_its_own() -> None:
    assert told(result(DEAD)) == ("failed", 137, "SIGKILL", "exited")


# -- declared files ---------------------------------------------------------------------------------------------


def test_missing_outputs_fail_a_job_that_exited_0_with_return_code_1() -> None:
    record = result(Exited(0), verified=Verified(missing=("a", "b"), seen=(("c", 5),)))
    assert told(record) == ("failed", 1, None, "exited")
    assert record.missing_outputs == ("a", "b")
    assert record.outputs_seen == {"c": 5}


def test_missing_outputs_of_a_job_that_failed_keep_its_own_code() -> None:
    record = result(Exited(3), verified=Verified(missing=("a",)))
    assert told(record) == ("failed", 3, None, "exited")


def test_missing_outputs_of_a_terminated_job_are_no_news() -> None:
    record = result(Exited(0), StopReason.SIGNAL, verified=Verified(missing=("a",), checkpoint_saved=True))
    assert told(record) == ("terminated", 0, None, "in_grace")
    assert record.missing_outputs is None
    assert record.checkpoint_saved is True


def test_all_outputs_there_is_completed() -> None:
    assert result(Exited(0), verified=Verified()).status == "completed"


# -- the rest of the record ---------------------------------------------------------------------------------------


def test_times_and_usage_are_passed_on() -> None:
    outcome = Outcome(Exited(0), 112.5, usage=Usage(9, 1.5, 0.5), leftovers=2)
    record = job_ended(KEY, outcome, 100.0, ReturnCodes(), end_known=False, checkpoint="m.pt")
    assert (record.run_id, record.job_id, record.attempt_id, record.start_time) == (3, 7, 2, KEY.start_time)
    assert (record.exec_time_seconds, record.leftovers, record.checkpoint) == (12.5, 2, "m.pt")
    assert (record.max_rss_bytes, record.user_cpu_seconds, record.system_cpu_seconds) == (9, 1.5, 0.5)


def test_samples_give_peaks_and_averages_and_are_forgotten() -> None:
    samples, record = Samples(), result(Exited(0))
    assert samples.complete(7, record) == record
    samples.add(7, 100, 50.0)
    samples.add(7, 300, 25.04)
    full = samples.complete(7, record)
    assert (full.peak_memory_bytes, full.avg_memory_bytes) == (300, 200)
    assert (full.peak_cpu_percent, full.avg_cpu_percent) == (50.0, 37.5)
    assert samples.complete(7, record) == record


def test_complaints_name_the_job_and_what_is_wrong_with_it() -> None:
    job = Job(7, "train", "true", output_files=("a",))
    missing = result(Exited(0), verified=Verified(missing=("a",)))
    assert list(complaints(job, missing, looked=True)) == [
        ("missing_outputs", "job 'train' exited 0 without its outputs: a")
    ]
    assert [c for c, _ in complaints(job, result(Exited(0)), looked=False)] == ["unverified"]
    assert list(complaints(job, result(Signaled(SIGSEGV), StopReason.SIGNAL), looked=False)) == []
    assert list(complaints(replace(job, output_files=()), result(Exited(0)), looked=False)) == []
    failed = not_started(KEY, "bash: not found")
    assert told(failed) == ("failed", 126, None, "not_started")
    assert list(complaints(job, failed, looked=False)) == [
        ("not_started", "job 'train' cannot be started: bash: not found")
    ]


@pytest.mark.parametrize("killed", [False, True])
def test_a_step_of_which_nobody_saw_the_end_is_lost_without_a_code(killed: bool) -> None:
    assert told(result(None, StopReason.STEP_LOST)) == ("terminated", None, None, "lost")
    assert told(result(None, StopReason.SIGNAL, killed=killed, end_known=True)) == (
        "terminated",
        None,
        None,
        "lost",
    )
    assert told(result(None, StopReason.CANCEL, killed=killed)) == ("canceled", None, None, "lost")
    assert "srun" in (result(None, StopReason.STEP_LOST).error or "")
