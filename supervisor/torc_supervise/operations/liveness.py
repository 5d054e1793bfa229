"""Is the owner of a lock still there?  Asked of /proc on its own host, of Slurm for one in an allocation elsewhere.

In another PID namespace (a container) is elsewhere too: its pids are others here.  So in doubt it is alive.

Slurm may be wrong about one thing only: a node that it has lost touch with.  What ran there may still run.  So an owner
on such a node is waited for, with a limit, by whoever wants to run the workflow; and a supervisor that was taken for
dead stops writing when it sees that its lock has another's name on it (docs/decisions/0018).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from msgspec.structs import replace

from torc_supervise.posix import clock, host
from torc_supervise.posix.identity import Identity, is_elsewhere, may_be_alive
from torc_supervise.store.lock import Owner, read_owner

RELEASE_LIMIT = 120.0
"""Seconds that a run waits for an owner that Slurm has lost sight of, before it takes the workflow over."""

LOOK_EVERY = 1.0
"""Seconds between looks at the lock meanwhile; file servers tell nobody about changes made on another host."""

ASK_EVERY = 15.0  # seconds between questions to Slurm meanwhile

SLURM_WITHIN = 10.0  # seconds for each of Slurm's answers

_LOST_STATES = ("NODE_FAIL", "BOOT_FAIL")


class Life(Enum):
    """What is known of an owner."""

    ALIVE = "alive"  # or nobody knows
    ENDING = "ending"  # Slurm is ending its allocation right now
    LOST = "lost"  # its allocation is over, and its node does not answer
    DEAD = "dead"


HELD = frozenset({Life.ALIVE, Life.ENDING})
"""The workflow is not to be taken over."""


class Verdict(NamedTuple):
    """``why``: for people, goes on from "the workflow belongs to ...": ", whose allocation is gone".

    ``hint``: the way out, where it is not that of a workflow with a living supervisor.
    """

    life: Life
    why: str
    hint: str | None = None


def judge(owner: Owner, environ: Mapping[str, str] = os.environ) -> Verdict:
    """What is known of the supervisor, or its keeper, that holds a lock."""
    if owner.host == host.name():
        if not _processes_live(owner):
            return Verdict(Life.DEAD, "which is gone")
        if not is_elsewhere(_supervisor_of(owner)):
            return Verdict(Life.ALIVE, "") if may_be_alive(_supervisor_of(owner)) else _of_a_keeper(owner)
        where = "in another PID namespace of this host (a container?)"
    else:
        where = "on another host"
    if owner.slurm_job_id is None or owner.slurm_node is None:
        # Without a node it has inherited Slurm's variables, from salloc or a job that is over: it may outlive the job.
        return Verdict(Life.ALIVE, f"which is {where}")
    if owner.slurm_job_id == environ.get("SLURM_JOB_ID"):
        return _judge_own_allocation(owner, environ)
    return _judge_by_slurm(owner, owner.slurm_job_id, environ)


def lives(owner: Owner) -> bool:
    """As the lock asks it: False where the workflow may be taken over at once."""
    return judge(owner).life in HELD


def wait_for_release(path: str, say: Callable[[str], None]) -> str | None:
    """Give an owner that may just be leaving, or that Slurm has lost sight of, the time to release the lock.

    Returns:
        the nonce of an owner that was waited for in vain and counts as dead; None where the lock itself tells.
    """
    owner = read_owner(path)
    if owner is None:
        return None
    verdict = judge(owner)
    if verdict.life not in (Life.ENDING, Life.LOST):
        return None
    whose = f"the workflow belongs to {owner.describe()}, {verdict.why}"
    say(f"{whose}: waiting up to {RELEASE_LIMIT:.0f} s until it is released")
    now = clock.monotonic()
    until, ask_at = now + RELEASE_LIMIT, now + ASK_EVERY
    never = threading.Event()
    while (now := clock.monotonic()) < until:
        never.wait(min(LOOK_EVERY, until - now))
        current = read_owner(path)
        if current is None or current.nonce != owner.nonce:
            return None
        if clock.monotonic() >= ask_at:
            verdict, ask_at = judge(owner), clock.monotonic() + ASK_EVERY
            if verdict.life not in (Life.ENDING, Life.LOST):
                return None
    return owner.nonce if verdict.life is Life.LOST else None


def _supervisor_of(owner: Owner) -> Identity:
    return Identity(owner.host, owner.boot_id, owner.pid, owner.start_ticks, owner.pid_namespace)


def _processes_live(owner: Owner) -> bool:
    """The supervisor or its keeper."""
    supervisor = _supervisor_of(owner)
    if may_be_alive(supervisor):
        return True
    if owner.keeper_pid is None:
        return False
    return may_be_alive(replace(supervisor, pid=owner.keeper_pid, start_ticks=owner.keeper_ticks))


def _of_a_keeper(owner: Owner) -> Verdict:
    """The supervisor is gone; its keeper ends what it has left, and writes."""
    return Verdict(
        Life.ALIVE,
        "whose supervisor is gone, and whose keeper still ends its jobs or writes what it knows",
        f"wait for it; if its disk is full, make room: 'kill -9 {owner.keeper_pid}' gives up what is not written",
    )


def _judge_own_allocation(owner: Owner, environ: Mapping[str, str]) -> Verdict:
    """Two supervisors with one allocation: on another node of it, or before Slurm requeued it."""
    if owner.slurm_restarts >= restarts(environ):
        return Verdict(Life.ALIVE, "which is on another node of this allocation")
    return _once_over(owner, "which is from before this allocation was requeued")


def _judge_by_slurm(owner: Owner, slurm_job_id: str, environ: Mapping[str, str]) -> Verdict:
    # Imported here: most locks are about this host, and these bring subprocess along.
    from torc_supervise.slurm import jobs, site
    from torc_supervise.slurm.commands import SlurmError

    try:
        job = jobs.look([slurm_job_id], timeout=SLURM_WITHIN).get(slurm_job_id)
    except SlurmError as error:
        return Verdict(Life.ALIVE, f"and nobody knows whether it lives ({error.message.splitlines()[0]})")
    elsewhere = owner.slurm_cluster is not None and (job is None or job.is_over or job.is_queued)
    if elsewhere and site.cluster_name(environ) != owner.slurm_cluster:
        return Verdict(Life.ALIVE, f"which is on another cluster ({owner.slurm_cluster})")
    if job is None:
        return Verdict(Life.DEAD, "whose allocation is gone")
    if job.is_ending:
        return Verdict(Life.ENDING, "whose allocation is being ended by Slurm")
    if job.is_over:
        what = f"whose allocation is over ({job.state})"
        return _once_over(owner, what) if job.state in _LOST_STATES else Verdict(Life.DEAD, what)
    if job.is_queued:
        return _once_over(owner, "whose allocation was requeued")
    return Verdict(Life.ALIVE, "whose allocation is running")


def _once_over(owner: Owner, what: str) -> Verdict:
    from torc_supervise.slurm import site

    assert owner.slurm_node is not None
    if site.node_answers(owner.slurm_node, timeout=SLURM_WITHIN):
        return Verdict(Life.DEAD, what)
    return Verdict(Life.LOST, f"{what}, and whose node does not answer")


def restarts(environ: Mapping[str, str]) -> int:
    """How often Slurm has started this allocation again."""
    text = environ.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdecimal() else 0
