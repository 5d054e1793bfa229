"""Limits: what one run's workflow and wall time mean for a job: how it is ended, when, and whether it still starts."""

from __future__ import annotations

from signal import Signals

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.machine import deadlines
from torc_supervise.machine import phases as p
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.events import ClockReached, EndMoved, Spawned, StopAsked
from torc_supervise.machine.status import StopReason
from torc_supervise.workflow.model import ExecutionConfig, Job
from torc_supervise.workflow.signals import parse_signal_spec

VERIFY_LIMIT = 30.0
"""Seconds that a supervisor which wants to leave waits for a file system to say whether outputs exist."""


def execution_of_steps(execution: ExecutionConfig) -> ExecutionConfig:
    """How jobs are asked to end where they are steps: ``srun_termination_signal`` names the signal and the time.

    The signal is ours to send, not Slurm's: a step's time limit counts in minutes, and Slurm would send it up to a
    minute early, to the step and not to the job.
    """
    written = execution.slurm.get("srun_termination_signal")
    if written is None:
        return execution
    spec = parse_signal_spec(str(written))
    return replace(
        execution,
        termination_signal=spec.signal,
        sigterm_lead_seconds=float(spec.seconds),
        sigterm_lead_stated=True,
    )


class Limits(Struct, frozen=True):
    """The rules of one run.  Constant, but for the end of the allocation: where that moves, others replace them."""

    execution: ExecutionConfig
    wall: WallTime

    def policy(self, job: Job) -> p.Policy:
        grace, stated = deadlines.grace_of(job, self.execution)
        policy = p.Policy(
            termination_signal=Signals[job.termination_signal or self.execution.termination_signal].value,
            supports_termination=job.supports_termination,
            signal_leader_only=job.signal_scope == "leader",
            grace=grace,
            grace_stated=stated,
            verify=bool(job.output_files or job.checkpoint),
        )
        return deadlines.scaled(policy, self.wall)

    def spawned(self, policy: p.Policy, job: Job, pgid: int, now: float) -> Spawned:
        """The news that a job has a process, with the deadlines of its time limits."""
        ask_at, why, kill_at = deadlines.own_ask(policy, now, self.wall, self._runtime_limit(job))
        return Spawned(pgid, ask_at, why, kill_at)

    def end_moved(self, phase: p.Phase, job: Job, now: float) -> EndMoved | None:
        """What these limits mean for a job that was there before them; None where nothing follows."""
        match phase:
            case p.Running(started=started):
                policy, limit = self.policy(job), self._runtime_limit(job)
                return EndMoved(*deadlines.own_ask(policy, started, self.wall, limit), policy.grace)
            case p.Terminating(policy=policy) | p.Lingering(policy=policy):
                return EndMoved(now, StopReason.WALL_TIME, self.kill_at(policy, now), policy.grace)
            case _:
                return None

    def _runtime_limit(self, job: Job) -> float | None:
        return job.requirements.runtime_seconds if self.execution.limit_resources else None

    def kill_at(self, policy: p.Policy, now: float) -> float:
        return deadlines.kill_at(policy, now, self.wall)

    def clock(self, phase: p.Phase, now: float) -> ClockReached | StopAsked:
        """The news that a deadline of the phase has come.

        A job is asked at the moment that its grace was counted from.  Where the supervisor itself was held up, the
        grace counts from now, as far as time is left: asked and killed in one instant a job could save nothing.
        """
        if not (isinstance(phase, p.Running) and now > phase.ask_at):
            return ClockReached()
        return StopAsked(phase.ask_why, min(now + phase.policy.grace, self.kill_at(phase.policy, now)))

    def fits_in_time(self, job: Job, now: float) -> bool:
        """Whether a start makes sense.

        A job that cannot save is not started when its stated runtime would be cut off by the end; one that can
        is not started when it would be asked to end at once; none is when everything is to be killed by now.
        """
        if not self.wall.known:
            return True
        if job.supports_termination:
            return now < self.wall.kill_at - self.policy(job).grace
        runtime = job.requirements.runtime_seconds
        return now < self.wall.kill_at and (runtime is None or now + runtime <= self.wall.end)

    @property
    def closing_at(self) -> float:
        """From here on nothing is started, even if nothing runs that would have to be asked."""
        return self.wall.kill_at

    def verify_until(self, now: float, at_most: float = p.NEVER) -> float:
        """How long a run that wants to end waits for a file system: half of what is left, a second at least (P12).

        Args:
            at_most: seconds.
        """
        limit = min(VERIFY_LIMIT, at_most)
        if not self.wall.known:
            return now + limit
        return now + min(limit, max(1.0, (self.wall.end - now) / 2))
