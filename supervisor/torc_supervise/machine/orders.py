"""Orders: what a Supervision wants the loop to do, in this order, starts last; and what is said of a run that ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from torc_supervise.capacity import Placement
from torc_supervise.machine import actions as a
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.status import StopReason
from torc_supervise.workflow.model import Job


class Start(Struct, frozen=True, gc=False):
    """Order: spawn this job and report Spawned, SpawnRefused or SpawnFailed."""

    job: Job
    attempt_id: int
    placement: Placement


class Order(Struct, frozen=True, gc=False):
    """Order: carry out an action for a job."""

    job_id: int
    action: a.SignalGroup | a.SignalLeader | a.Reap | a.Verify


class Write(Struct, frozen=True, gc=False):
    """Order: hand this record, already folded into the state, to the keeper.

    ``t`` and ``mono`` are the times it was folded with: the journal has to say the same.
    """

    record: r.Record
    t: str
    mono: float


class Say(Struct, frozen=True, gc=False):
    """Order: one line on stderr for whoever watches."""

    text: str


class Do(Struct, frozen=True, gc=False):
    """Order: have the keeper do something slow, and report what it came to.

    ``once``: not to be done again by the next keeper if this one dies over it.
    """

    chore_id: int
    kind: str
    body: dict[str, Any]
    once: bool = False


class NewEnd(Struct, frozen=True, gc=False):
    """Order: the end of the allocation has moved; whoever reckons with it has to know."""

    wall: WallTime


Orders = list[Start | Order | Write | Say | Do | NewEnd]


class Ending(Struct, frozen=True, gc=False):
    """The run was asked to end."""

    why: StopReason
    since: float
    hurried: bool = False  # a second interrupt killed everything


class Tally(Struct, frozen=True, gc=False):
    """What the jobs are about when a run begins to end.  ``seconds``: until the last of them gets SIGKILL."""

    asked: int
    killed: int
    waiting: int  # for their own moment, nearer to the end
    seconds: float

    @classmethod
    def of(cls, phases: Iterable[p.Phase], now: float) -> Tally:
        asked = killed = waiting = 0
        latest = now
        for phase in phases:
            match phase:
                case p.Terminating(kill_at=kill_at):
                    asked += 1
                    latest = max(latest, kill_at)
                case p.Killing():
                    killed += 1
                case p.Running(ask_kill_at=kill_at):
                    waiting += 1
                    latest = max(latest, kill_at)
        return cls(asked, killed, waiting, latest - now)


def announcement(what: str, why: StopReason, tally: Tally, *, hint: bool) -> str:
    """ "SIGTERM received: 3 jobs asked to save, 2 killed, waiting up to 28 s"."""
    asked, killed, waiting = tally.asked, tally.killed, tally.waiting
    heading = f"{what} received" if why in (StopReason.SIGNAL, StopReason.CANCEL) else what
    if not (asked or killed or waiting):
        return f"{heading}: nothing is running"
    parts = []
    if asked:
        parts.append(f"{jobs_text(asked)} asked to save")
    if killed:
        parts.append(f"{killed} killed" if parts else f"{jobs_text(killed)} killed")
    if waiting:
        parts.append(f"{waiting} to be asked nearer to the end")
    if asked or waiting:
        parts.append(f"waiting up to {seconds_text(tally.seconds)}")
    if hint and asked:
        parts.append("press Ctrl-C again to kill them at once")
    return f"{heading}: {', '.join(parts)}"


def runtime_text(job: Job) -> str:
    what = "asked to save" if job.supports_termination else "killed"
    limit = job.requirements.runtime_seconds or 0.0
    return f"job '{job.name}' has used up its runtime of {seconds_text(limit)}: {what}"


def jobs_text(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def seconds_text(seconds: float) -> str:
    """1.25 -> "1.2 s", 28 -> "28 s", 5329 -> "1:28:49"."""
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def not_started_text(jobs: list[Job]) -> str:
    names = ", ".join(f"'{job.name}'" for job in jobs[:3]) + (
        f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
    )
    return f"not enough time was left to start {jobs_text(len(jobs))}: {names}"


def memory_text(job: Job, used: int) -> str:
    asked = job.requirements.memory_bytes
    return f"job '{job.name}' uses {used >> 20} MiB, more than the {asked >> 20} MiB it asked for: killed"


def leftovers_text(job: Job, members: int) -> str:
    return f"job '{job.name}' exited and left {members} {'process' if members == 1 else 'processes'} behind"


def escaped_text(job: Job, processes: int) -> str:
    what = "process that has" if processes == 1 else "processes that have"
    return f"job '{job.name}' left {processes} {what} left its process group: ended with it"
