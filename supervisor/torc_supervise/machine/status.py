"""Job statuses, end states and workflow states: the words that users see, as Torc spells them."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What a job is, between attempts as well (TORC.md 2.1)."""

    UNINITIALIZED = "uninitialized"
    BLOCKED = "blocked"
    READY = "ready"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"
    DISABLED = "disabled"
    PENDING_FAILED = "pending_failed"


SETTLED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
"""Statuses that count for dependents.  ``terminated`` is missing on purpose: a dependent never runs on half a
result, so it stays blocked until the job was resumed and has settled (docs/decisions/0003)."""


class Ended(StrEnum):
    """How an attempt ended, besides its status."""

    EXITED = "exited"  # by itself
    IN_GRACE = "in_grace"  # it was asked to end and did so before its deadline
    KILLED = "killed"  # SIGKILL was needed, or was all it could be sent
    UNKILLABLE = "unkillable"  # it was still there a while after SIGKILL; we stopped waiting
    LOST = "lost"  # its supervisor died with it, or Slurm ended its step; nobody saw the exit status
    NOT_STARTED = "not_started"  # the spawn itself failed, by the job's own fault


class RunState(StrEnum):
    """What a whole workflow is doing."""

    READY = "ready"
    RUNNING = "running"
    TERMINATING = "terminating"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"
    CANCELED = "canceled"


class StopReason(StrEnum):
    """Why a job is asked to end."""

    SIGNAL = "signal"  # the supervisor received a termination signal
    WALL_TIME = "wall_time"  # the end of the allocation is near
    RUNTIME_LIMIT = "runtime_limit"  # the job's own runtime is used up
    MEMORY_LIMIT = "memory_limit"  # the job uses more memory than it asked for
    CANCEL = "cancel"  # somebody canceled the workflow
    STEP_LOST = "step_lost"  # Slurm ended its job step, or gave it none
    OWNER_CHANGED = "owner_changed"  # somebody has taken the workflow over, and may run the same jobs
    LEFTOVER = "leftover"  # its leader is gone; members of its group stayed behind
