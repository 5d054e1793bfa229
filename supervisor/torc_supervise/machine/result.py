"""From what happened to a process to the result that is recorded: status, return code, how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from signal import SIGKILL, Signals

from msgspec import Struct

from torc_supervise.exitstatus import Exit, Exited
from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import Outcome
from torc_supervise.machine.records import JobEnded
from torc_supervise.machine.status import Ended, Status, StopReason
from torc_supervise.workflow.model import Job

_STATUS_WHEN_ASKED = {
    StopReason.SIGNAL: Status.TERMINATED,
    StopReason.WALL_TIME: Status.TERMINATED,
    StopReason.RUNTIME_LIMIT: Status.TERMINATED,
    StopReason.CANCEL: Status.CANCELED,
    StopReason.STEP_LOST: Status.TERMINATED,  # not its own fault: it runs again
    StopReason.OWNER_CHANGED: Status.TERMINATED,
    StopReason.MEMORY_LIMIT: Status.FAILED,  # it would do the same again
}


STEP_LOST_TEXT = "Slurm ended its job step or gave it none; what srun said is in its stderr file"


class ReturnCodes(Struct, frozen=True):
    """The codes that stand for a limit instead of 128 + SIGKILL (``execution_config``)."""

    timeout: int = 152
    oom: int = 137


class AttemptKey(Struct, frozen=True):
    """Which attempt a result belongs to, and when it started (UTC, for people)."""

    run_id: int
    job_id: int
    attempt_id: int
    start_time: str | None


@cache
def signal_name(signum: int) -> str:
    """ "SIGTERM" for 15; "SIG35" where the number has no name."""
    try:
        return Signals(signum).name
    except ValueError:
        return f"SIG{signum}"


def job_ended(
    key: AttemptKey,
    outcome: Outcome,
    started: float,
    codes: ReturnCodes,
    *,
    end_known: bool,
    verified: Verified | None = None,
    checkpoint: str | None = None,
) -> JobEnded:
    """The result record of an attempt.

    Args:
        started: monotonic seconds, as is ``outcome.ended``.
        end_known: the end of the allocation is known, so a deadline of ours stands for its wall time.
        verified: what the keeper saw of the declared files; None where nothing was looked at.
        checkpoint: path of the declared checkpoint, if any.
    """
    status = _status(outcome, verified)
    code = _return_code(outcome, codes, end_known)
    if verified is not None and verified.missing and outcome.why is None and code == 0:
        code = 1  # as Torc: an output that is missing makes the job fail with 1
    usage = outcome.usage
    return JobEnded(
        run_id=key.run_id,
        job_id=key.job_id,
        attempt_id=key.attempt_id,
        status=status.value,
        ended=_how(outcome).value,
        return_code=code,
        signal=_signal(outcome),
        why=outcome.why.value if outcome.why is not None else None,
        start_time=key.start_time,
        exec_time_seconds=round(outcome.ended - started, 6),
        max_rss_bytes=usage.max_rss_bytes if usage else None,
        max_rss_is_bound=(usage.max_rss_is_bound or None) if usage else None,
        user_cpu_seconds=usage.user_cpu_seconds if usage else None,
        system_cpu_seconds=usage.system_cpu_seconds if usage else None,
        leftovers=outcome.leftovers or None,
        missing_outputs=(verified.missing or None) if verified and status is Status.FAILED else None,
        outputs_seen=(dict(verified.seen) or None) if verified else None,
        checkpoint=checkpoint,
        checkpoint_saved=verified.checkpoint_saved if verified else None,
        error=STEP_LOST_TEXT if outcome.why is StopReason.STEP_LOST else None,
    )


def not_started(key: AttemptKey, error: str) -> JobEnded:
    """The result of an attempt that could not be started, by the job's own fault; 126 as a shell would say."""
    return JobEnded(
        key.run_id,
        key.job_id,
        key.attempt_id,
        Status.FAILED.value,
        Ended.NOT_STARTED.value,
        126,
        start_time=key.start_time,
        exec_time_seconds=0.0,
        error=error,
    )


def complaints(job: Job, record: JobEnded, *, looked: bool) -> Iterator[tuple[str, str]]:
    """Warnings (code, message) that a result calls for.

    Args:
        looked: the declared files were looked at.
    """
    if record.ended == Ended.NOT_STARTED:
        yield "not_started", f"job '{job.name}' cannot be started: {record.error}"
    elif not looked and record.why is None and job.output_files:
        yield "unverified", f"job '{job.name}': its output files could not be looked at"
    if record.missing_outputs:
        names = ", ".join(record.missing_outputs)
        yield "missing_outputs", f"job '{job.name}' exited 0 without its outputs: {names}"


def _status(outcome: Outcome, verified: Verified | None) -> Status:
    if outcome.why is not None:
        return _STATUS_WHEN_ASKED[outcome.why]
    if outcome.exit != Exited(0):
        return Status.FAILED
    return Status.FAILED if verified is not None and verified.missing else Status.COMPLETED


def _how(outcome: Outcome) -> Ended:
    if outcome.unkillable:
        return Ended.UNKILLABLE
    if outcome.exit is None:  # of a job step: a leader that was killed as any process has an exit
        return Ended.LOST
    if outcome.killed:
        return Ended.KILLED
    return Ended.EXITED if outcome.why is None else Ended.IN_GRACE


def _return_code(outcome: Outcome, codes: ReturnCodes, end_known: bool) -> int | None:
    if outcome.killed and not outcome.unkillable and outcome.exit is not None:
        if outcome.why is StopReason.MEMORY_LIMIT:
            return codes.oom
        if outcome.why in (StopReason.WALL_TIME, StopReason.RUNTIME_LIMIT):
            return codes.timeout
        if outcome.why is StopReason.SIGNAL and end_known:
            return codes.timeout
        return 128 + SIGKILL
    return shell_code(outcome.exit)


def shell_code(exit_: Exit | None) -> int | None:
    """The code that a shell would show: the exit code, or 128 + n for death by signal n."""
    if exit_ is None:
        return None
    return exit_.code if isinstance(exit_, Exited) else 128 + exit_.signum


def _signal(outcome: Outcome) -> str | None:
    if outcome.killed and not outcome.unkillable and outcome.exit is not None:
        return signal_name(SIGKILL)
    if outcome.exit is None or isinstance(outcome.exit, Exited):
        return None
    return signal_name(outcome.exit.signum)
