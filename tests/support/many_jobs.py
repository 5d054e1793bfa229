"""Many jobs through the pure core: what the loop would do, without a process, a clock or a disk."""

from __future__ import annotations

from dataclasses import dataclass

from support.replaying import SOME_USAGE, Capacity, job, state_of
from torc_supervise.exitstatus import Exited
from torc_supervise.machine import records as r
from torc_supervise.machine.actions import Reap
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.supervision import Order, Start, Supervision, Write
from torc_supervise.scheduler import Scheduler
from torc_supervise.store.records import encode
from torc_supervise.workflow.model import Job, Requirements

STAGES = 4  # chains of this length


def build(count: int) -> list[Job]:
    shapes = [Requirements(num_cpus=1 + n % 3, memory_bytes=1 << (20 + n % 4)) for n in range(12)]
    return [
        job(
            n,
            depends_on=(n - 1,) if n % STAGES != 1 else (),
            requirements=shapes[n % 12],
            priority=n % 5,
        )
        for n in range(1, count + 1)
    ]


@dataclass(frozen=True)
class Ran:
    """``lines``: of the journal."""

    state: WorkflowState
    supervision: Supervision
    lines: list[bytes]


def begin(count: int) -> Ran:
    """Everything up to the first start."""
    state = state_of(*build(count))
    supervision = Supervision(state, Scheduler(Capacity(200, 1 << 40, 0)))
    lines = [encode(1, "t0", 0.0, r.WorkflowCreated(1, 1, state.workflow.to_dict()))]
    supervision.at(1.0, "t1")
    supervision.begin(r.RunStarted(1, "host", 1))
    return Ran(state, supervision, lines)


def go_on(ran: Ran) -> None:
    """All jobs, each of which exits with 0 one turn after it was started."""
    supervision, lines = ran.supervision, ran.lines
    running: list[int] = []
    pgid, turns = 1000, 0
    while not supervision.done:
        turns += 1
        supervision.at(float(turns), f"t{turns}")
        supervision.tick()
        for group in running:
            supervision.on_leader_exited(group, Exited(0), 0)
        running = []
        while orders := (
            supervision.take_orders() or (supervision.start_next() and supervision.take_orders())
        ):
            for order in orders:
                match order:
                    case Start(job=started):
                        pgid += 1
                        running.append(pgid)
                        supervision.on_spawned(started.job_id, pgid)
                    case Order(job_id=job_id, action=Reap()):
                        supervision.on_reaped(job_id, SOME_USAGE)
                    case Write(record=record, t=t, mono=mono):
                        lines.append(encode(len(lines) + 1, t, mono, record))
