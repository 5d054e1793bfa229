"""Deadlines: when a job is asked to end, and when SIGKILL follows.  Pure arithmetic on monotonic seconds.

::

    running ......................| asked to save ........| SIGKILL ...| end of the allocation
                                  end-headroom-grace      end-headroom end

DESIGN.md section 4 is the specification; docs/signals.md tells it to users.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.machine.phases import NEVER, Policy
from torc_supervise.machine.status import StopReason
from torc_supervise.workflow.model import ExecutionConfig, Job, Workflow

LARGEST_SHARE = 2 / 3
"""Headroom and grace together take at most this share of a short allocation."""

SMALLEST_HEADROOM = 0.1
"""Share of a short allocation that stays headroom, when the headroom gives way to the grace."""


class WallTime(Struct, frozen=True):
    """The known end of the allocation, and how long before it SIGKILL goes out.

    ``grace_scale`` shortens every job's grace where the allocation is too short for them; 1.0 otherwise.
    """

    end: float = NEVER  # monotonic seconds
    headroom: float = 0.0
    grace_scale: float = 1.0

    @property
    def known(self) -> bool:
        return self.end < NEVER

    @property
    def kill_at(self) -> float:
        return self.end - self.headroom if self.known else NEVER


def fit(now: float, end: float, headroom: float, longest_grace: float) -> WallTime:
    """Wall time with headroom and grace shortened where they would eat too much of what is left.

    The headroom gives way first: it is a reserve, while the grace is what a job needs to save.
    """
    if end == NEVER:
        return WallTime()
    left = max(0.0, end - now)
    allowed = left * LARGEST_SHARE
    if headroom + longest_grace <= allowed:
        return WallTime(end, headroom)
    shortened = min(headroom, max(allowed - longest_grace, left * SMALLEST_HEADROOM))
    scale = min(1.0, (allowed - shortened) / longest_grace) if longest_grace else 1.0
    return WallTime(end, shortened, scale)


def refit(
    begun: float, now: float, before: WallTime, end: float, headroom: float, longest: float
) -> WallTime:
    """Wall time for an end that has moved.  ``begun``: when the run began; a short allocation is one that is short
    as a whole, not one of which little is left.

    Where the new end is so near that jobs should have been asked by now, the headroom gives way to their grace.
    """
    wall = fit(begun, end, headroom, longest)
    if not wall.known or end >= before.end or now + longest * wall.grace_scale <= wall.kill_at:
        return wall
    shortest = fit(now, end, headroom, longest)
    spare = end - now - longest
    if spare >= shortest.headroom:
        return WallTime(end, min(wall.headroom, spare))
    return shortest


def shortened_text(wall: WallTime, limit: float, headroom: float, longest: float) -> str:
    """What people are told where an allocation is too short for headroom and grace."""
    return (
        f"{limit:.0f} s in all are too short for a headroom of {headroom:.0f} s and a grace of "
        f"{longest:.0f} s: shortened to {wall.headroom:.1f} s and {longest * wall.grace_scale:.1f} s"
    )


def grace_of(job: Job, execution: ExecutionConfig) -> tuple[float, bool]:
    """Seconds between the termination signal and SIGKILL, and whether a person asked for that figure."""
    if job.sigterm_lead_seconds is not None:
        return job.sigterm_lead_seconds, True
    return execution.sigterm_lead_seconds, execution.sigterm_lead_stated


def longest_grace(workflow: Workflow) -> float:
    """The longest grace of the jobs that support termination; 0.0 if none does."""
    graces = (grace_of(job, workflow.execution)[0] for job in workflow.jobs if job.supports_termination)
    return max(graces, default=0.0)


def scaled(policy: Policy, wall: WallTime) -> Policy:
    return policy if wall.grace_scale == 1.0 else replace(policy, grace=policy.grace * wall.grace_scale)


def own_ask(
    policy: Policy, started: float, wall: WallTime, runtime_limit: float | None
) -> tuple[float, StopReason, float]:
    """When a job is to be asked without anybody's signal: (ask_at, why, kill_at).

    A job that can save is asked its own grace before the last moment, so that one which needs 20 s computes longer
    than one which needs 300 s; a job that cannot save computes until the last moment itself.
    """
    lead = policy.grace if policy.supports_termination else 0.0
    by_wall = wall.kill_at - lead
    if runtime_limit is None or started + runtime_limit >= by_wall:
        return by_wall, StopReason.WALL_TIME, wall.kill_at
    asked = started + runtime_limit
    return asked, StopReason.RUNTIME_LIMIT, min(asked + policy.grace, wall.kill_at)


def kill_at(policy: Policy, now: float, wall: WallTime) -> float:
    """SIGKILL's moment for a job that is asked to end now.

    With a known end: as late as the headroom allows, so that no job is killed while there is paid time left for it
    to save; a grace that a person stated shortens it.  A signal that comes within the headroom itself still leaves
    the job half of the time until the end.  Without a known end: the grace.
    """
    if not wall.known:
        return now + policy.grace
    latest = wall.kill_at
    if policy.grace_stated:
        latest = min(latest, now + policy.grace)
    in_hurry = now + min(policy.grace, max(0.0, wall.end - now) / 2)
    return max(latest, in_hurry) if wall.kill_at < in_hurry else latest
