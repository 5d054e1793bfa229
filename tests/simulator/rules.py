"""Rules: the promises P1 to P14 (docs/promises.md) as far as they can be seen from outside, checked after every event.

What is looked at are system calls, processes, what the keeper tells its parent and what is on the disk; of the program's
own variables only that they agree with each other.  ``audit.py`` has the rules about the end of a day.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.fibers import NEVER, Broken, Proc
from support.fake_kernel import Process
from torc_supervise.exitstatus import Exited
from torc_supervise.machine import deadlines
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.supervision import SECOND_INTERRUPT_AFTER, Supervision
from torc_supervise.posix.marks import NONCE
from torc_supervise.workflow.model import Job

if TYPE_CHECKING:
    from simulator.machine import Machine

TERMINATION = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
SLACK = 1.0  # seconds by which something may be late for no reason that a rule knows
LEFTOVER_GRACE, UNKILLABLE_AFTER = 5.0, 10.0  # docs/signals.md


@dataclass(eq=False)
class Attempt:
    """One leader and what it has started, as the kernel saw it."""

    process: Process
    nonce: str
    job_id: int
    attempt_id: int
    run_id: int
    started: float
    sent: list[tuple[float, int, str]] = field(default_factory=list)  # to the group: when, what, by whom
    exited: float = NEVER
    kill_due: float = NEVER  # SIGKILL must be out by then
    is_lost: bool = False  # its supervisor was killed
    is_known: bool = False  # to the will that goes on with it


class Rules:
    """Told by the kernel and the links what is about to happen, before it happens."""

    def __init__(self, machine: Machine) -> None:
        self._hub, self._machine = machine.hub, machine
        self.attempts: dict[Process, Attempt] = {}  # by their leaders
        self.untraceable: set[Process] = set()  # of which only a living supervisor can tell whose they are
        self.family: dict[Process, Attempt] = {}  # every process that has come of one
        self.state: WorkflowState | None = None
        self.supervision: Supervision | None = None
        self.walls: list[tuple[float, WallTime]] = []  # since when each is reckoned with
        self.asked_at: float | None = None  # when somebody asked for the end, and was heard
        self.is_wanted = False  # its end, by somebody who may not have been heard yet
        self.told: set[int] = set()  # signals that have reached a working supervisor
        self.interrupts: list[float] = []
        self.held_up = 0.0  # seconds for which processes were frozen, or /proc could not be looked at
        self.acknowledged = 0
        self.records: list[r.Record] = []
        self.in_loop = False
        self._refused: set[int] = set()
        self._seen_calls = -1
        self.journal = ""
        self.held_until = 0.0

    def broken(self, what: str) -> Broken:
        return self._hub.broken(what)

    def job(self, job_id: int) -> Job:
        assert self.state is not None
        return self.state.job(job_id)

    def new_run(self, state: WorkflowState) -> None:
        """A supervisor begins."""
        self.state, self.supervision = state, None
        self.walls, self.asked_at, self.told, self.interrupts = [], None, set(), []
        self.is_wanted = False
        self.records.clear()

    # -- P7, P11: starts ------------------------------------------------------------------------------------

    def spawning(self, environment: Mapping[str, str]) -> None:
        if self.asked_at is not None:
            raise self.broken("P7: a job is started after termination was asked for")
        if any(now >= wall.kill_at for now, wall in [(self._hub.now, wall) for _, wall in self.walls[-1:]]):
            raise self.broken("P7: a job is started after the last moment")

    def spawned(self, process: Process) -> None:
        names = ("TORC_JOB_ID", "TORC_ATTEMPT_ID", "TORC_RUN_ID")
        job_id, attempt_id, run_id = (int(process.environment[name]) for name in names)
        nonce, now = process.environment[NONCE], self._hub.now
        self._refused.discard(job_id)
        for other in self.attempts.values():
            if other.job_id == job_id and other.run_id == run_id and other.exited == NEVER:
                raise self.broken(f"P9: job {job_id} runs twice at a time")
        self.attempts[process] = self.family[process] = Attempt(
            process, nonce, job_id, attempt_id, run_id, now
        )

    def forked(self, child: Process, parent: Process) -> None:
        self.family[child] = self.family[parent]

    def left_of(self, attempt: Attempt) -> list[Process]:
        """Its living processes, wherever they are."""
        there = self._machine.kernel.processes.values()
        return [process for process in there if process.alive and self.family.get(process) is attempt]

    def not_spawned(self, environment: Mapping[str, str], *, machine_full: bool) -> None:
        job_id = int(environment["TORC_JOB_ID"])
        if machine_full:
            self._refused.add(job_id)
        else:
            self._refused.discard(job_id)

    # -- P2, P3, P6, P14: signals ---------------------------------------------------------------------------

    def signalling(self, target: int, signum: int, sender: Proc) -> None:
        """Somebody of ours is about to send a signal to a group (negative) or a process."""
        kernel = self._machine.kernel
        # A supervisor that has only just opened the workflow executes the will of another one.
        who = "supervisor" if sender.kind == "supervisor" and self.supervision is not None else "will"
        if target > 0:
            self._signalling_process(kernel.processes.get(target), signum, who)
            return
        leader = kernel.processes.get(-target)
        hit = [process for process in kernel.processes.values() if process.pgid == -target and process.alive]
        if who == "supervisor":
            if leader is None or -target not in kernel._leaders:
                raise self.broken(f"P3: a signal to group {-target}, whose leader was reaped")
            self._check_signal(self.attempts[leader], signum)
        for process in hit:
            if self.family.get(process) is None:
                raise self.broken(f"P3: {who} sends signal {signum} to a stranger")
        mine = leader if leader in self.attempts else None
        attempt = self.attempts[mine] if mine is not None else self.family.get(hit[0]) if hit else None
        if attempt is not None:
            if who != "supervisor" and signum == signal.SIGKILL:
                self._check_kill(attempt)
            attempt.sent.append((self._hub.now, signum, who))
            self._reckon(attempt, signum, who)

    def _signalling_process(self, process: Process | None, signum: int, who: str) -> None:
        if process is None:
            return
        attempt = self.family.get(process)
        if attempt is None:
            raise self.broken(f"P3: {who} sends signal {signum} to a stranger, {process.pid}")
        job = self.job(attempt.job_id)
        if process is attempt.process:
            if job.signal_scope != "leader" and who == "supervisor":  # a hunt goes from process to process
                raise self.broken(f"P2: signal {signum} goes to a leader alone")
            if who == "will" and signum == signal.SIGKILL:
                self._check_kill(attempt)
            attempt.sent.append((self._hub.now, signum, who))
            self._reckon(attempt, signum, who)

    def _term(self, attempt: Attempt) -> int:
        assert self.state is not None
        name = self.job(attempt.job_id).termination_signal or self.state.workflow.execution.termination_signal
        return signal.Signals[name].value

    def _check_signal(self, attempt: Attempt, signum: int) -> None:
        own = [number for _, number, kind in attempt.sent if kind == "supervisor"]
        term = self._term(attempt)
        if signum == signal.SIGKILL:
            if signal.SIGKILL in own:
                raise self.broken(f"P6: SIGKILL twice to job {attempt.job_id}")
            self._check_kill(attempt)
        elif signum == term:
            if term in own:
                raise self.broken(f"P6: the termination signal twice to job {attempt.job_id}")
            if signal.SIGKILL in own:
                raise self.broken(f"P6: backwards: SIGKILL first, job {attempt.job_id}")
        elif signum != signal.SIGCONT:
            raise self.broken(f"P6: signal {signum} is not the job's")
        elif not own or own[-1] != term:
            raise self.broken("P14: SIGCONT without the termination signal before it")

    def _check_kill(self, attempt: Attempt) -> None:
        """SIGKILL may not come before DESIGN section 4 allows it."""
        now, job = self._hub.now, self.job(attempt.job_id)
        assert self.state is not None
        asks = [at for at, number, _ in attempt.sent if number not in (signal.SIGCONT, signal.SIGKILL)]
        since = asks[0] if asks else now
        newer = [at for at, _ in self.walls[1:]] + [NEVER]
        walls = [w for (_, w), until in zip(self.walls, newer, strict=True) if until >= since and w.known]
        near = any(now >= wall.kill_at - 1e-6 for wall in walls)
        hurried = (
            len(self.interrupts) > 1 and self.interrupts[-1] - self.interrupts[0] >= SECOND_INTERRUPT_AFTER
        )
        if hurried or near or self._term(attempt) == signal.SIGKILL:
            return
        runtime = job.requirements.runtime_seconds
        over = runtime is not None and now >= attempt.started + runtime
        if not asks:
            wanted = self.is_wanted or self.asked_at is not None or attempt.is_lost or over
            if job.supports_termination and not (attempt.is_lost and not attempt.is_known):
                raise self.broken(f"P6: job {job.job_id} is killed without having been asked")
            if not wanted:
                raise self.broken(f"P6: job {job.job_id} is killed and nobody has asked for it")
            return
        grace, _ = deadlines.grace_of(job, self.state.workflow.execution)
        grace *= min((wall.grace_scale for wall in walls), default=1.0)
        if attempt.exited < asks[0] + 1.0 or attempt.exited < now:
            grace = min(grace, LEFTOVER_GRACE)
        for wall in walls:
            grace = min(grace, (wall.end - asks[0]) / 2)
        if not over and now - asks[0] < grace - 1e-3:
            raise self.broken(f"P6: job {job.job_id} is killed {now - asks[0]:.3f} s after its signal")

    def _reckon(self, attempt: Attempt, signum: int, who: str) -> None:
        """By when SIGKILL has to follow.  Later requests change nothing (P6)."""
        if signum in (signal.SIGCONT, signal.SIGKILL) or attempt.kill_due < NEVER or self.state is None:
            return
        now, wall = self._hub.now, self.walls[-1][1] if self.walls else WallTime()
        grace, stated = deadlines.grace_of(self.job(attempt.job_id), self.state.workflow.execution)
        grace *= wall.grace_scale
        if attempt.exited < NEVER and who == "supervisor":  # a will cannot tell
            grace, stated = LEFTOVER_GRACE, True
        attempt.kill_due = now + grace
        if wall.known and not stated:
            attempt.kill_due = max(attempt.kill_due, wall.kill_at)

    # -- P3, P4, P5: ends -----------------------------------------------------------------------------------

    def collecting(self, pid: int) -> None:
        left = self.left_of(self.attempts[self._machine.kernel.processes[pid]])
        if left and any(p.pgid == pid for p in left):
            raise self.broken(f"P3: leader {pid} is reaped while its group has members")
        if left:
            raise self.broken(
                f"P5: leader {pid} is reaped while processes of its job live outside of its group"
            )

    def ended(self, process: Process) -> None:
        attempt = self.attempts.get(process)
        if attempt is not None:
            attempt.exited = self._hub.now

    def supervisor_ended(self) -> None:
        for attempt in self.attempts.values():
            attempt.is_lost = True
            attempt.kill_due = NEVER  # whoever goes on reckons with what it has heard of
        self.supervision, self.in_loop = None, False

    def will_begins(self, live: Mapping[int, LiveAttempt]) -> None:
        """A last will begins, which knows of these attempts."""
        assert self.state is not None
        wall = self.walls[-1][1] if self.walls else WallTime()
        for attempt in self.attempts.values():
            known = live.get(attempt.job_id)
            if (
                known is None
                or known.started.pid != attempt.process.pid
                or known.started.run_id != attempt.run_id
            ):
                continue
            attempt.is_known = True
            if not known.asked_at:
                continue
            grace, _ = deadlines.grace_of(self.job(attempt.job_id), self.state.workflow.execution)
            if known.asked_why == "leftover":
                attempt.kill_due = known.asked_at + LEFTOVER_GRACE
                continue
            attempt.kill_due = known.asked_at + grace
            if wall.known:
                attempt.kill_due = max(attempt.kill_due, wall.kill_at)

    # -- P1, P9: records ------------------------------------------------------------------------------------

    def supervisor_signalled(self, signum: int) -> None:
        if signum in TERMINATION and self.supervision is not None and not self.supervision.done:
            self.told.add(signum)

    def signals_taken(self, raised: list[int]) -> None:
        """The loop has heard of them."""
        if self.in_loop and TERMINATION & set(raised) and self.asked_at is None:
            self.asked_at = self._hub.now
        if signal.SIGINT in raised:
            self.interrupts.append(self._hub.now)

    def recorded(self, record: r.Record) -> None:
        """The supervisor hands a record to its link."""
        self.records.append(record)
        match record:
            case r.TerminationStarted():
                self.asked_at = self.asked_at if self.asked_at is not None else self._hub.now
            case r.JobStarted(pid=pid, job_id=job_id):
                if not pid and job_id in self._refused:
                    raise self.broken(f"P11: job {job_id} failed because the machine was full")
            case r.JobEnded():
                self._check_result(record)

    def _check_result(self, record: r.JobEnded) -> None:
        key = (record.run_id, record.job_id, record.attempt_id)
        same = [
            x for x in self.records if isinstance(x, r.JobEnded) and key == (x.run_id, x.job_id, x.attempt_id)
        ]
        if len(same) > 1:
            raise self.broken(f"P9: job {record.job_id} has two results")
        attempt = self.attempt_with(record)
        if attempt is None:
            return
        left = self.left_of(attempt)
        if record.ended == "unkillable":
            self._check_unkillable(attempt, left)
            return
        if attempt.exited == NEVER or left:
            raise self.broken(f"P4: job {record.job_id} is over and {len(left)} of its processes live")
        if record.status == "completed":
            if attempt.process.exit != Exited(0):
                raise self.broken(f"P9: completed with {attempt.process.exit}")
            if any(at < attempt.exited for at, _, _ in attempt.sent):
                raise self.broken("P6: completed, although it was signalled while it ran")

    def _check_unkillable(self, attempt: Attempt, left: list[Process]) -> None:
        killed = [at for at, signum, _ in attempt.sent if signum == signal.SIGKILL]
        if not killed or self._hub.now < killed[0] + UNKILLABLE_AFTER - 1e-3:
            raise self.broken(f"P12: job {attempt.job_id} is given up too early")
        if self._machine.kernel.blind_until > killed[0]:
            return  # nobody can tell
        if not any(process.uninterruptible for process in left):
            raise self.broken(f"P12: job {attempt.job_id} is given up, and nothing of it is unkillable")

    def recorded_by_will(self, record: r.Record) -> None:
        """A will records; what has no environment any more it cannot find."""
        if not isinstance(record, r.JobEnded):
            return
        attempt = self.attempt_with(record)
        if attempt is None:
            return
        left = [process for process in self.left_of(attempt) if process not in self.untraceable]
        if record.ended == "unkillable":
            self._check_unkillable(attempt, left)
        elif left:
            raise self.broken(
                f"P4: a will records the end of job {attempt.job_id}, of which {len(left)} processes live"
            )

    def attempt_with(self, record: r.JobEnded) -> Attempt | None:
        key = (record.run_id, record.job_id, record.attempt_id)
        found = (a for a in self.attempts.values() if (a.run_id, a.job_id, a.attempt_id) == key)
        return next(found, None)

    def confirmed(self, seq: int) -> None:
        """A keeper is about to tell its parent that records up to ``seq`` are durable."""
        inode = self._machine.disk.files.get(self.journal)
        durable = inode.durable.count(b"\n") if inode is not None else 0
        if durable < seq:
            raise self.broken(f"P9: record {seq} is confirmed, and {durable} are durable")
        self.acknowledged = max(self.acknowledged, seq)

    def disk_reached(self, name: str) -> None:
        """Somebody asks the disk for something, which may take for ever."""
        fiber = self._hub.me()
        if self.in_loop and fiber.proc.kind == "supervisor" and fiber is fiber.proc.main:
            raise self.broken(f"P8: the supervisor calls {name}")

    # -- after every event ----------------------------------------------------------------------------------

    def check(self) -> None:
        supervisor = self._machine.kernel.supervisor
        if supervisor is None or supervisor.main is None:
            self._check_deadlines(None)
            return
        waits_for = supervisor.main.waiting
        if self.in_loop and waits_for not in (None, "select", "a turn", "fork"):
            raise self.broken(f"P8: the supervisor waits for {waits_for}")
        if waits_for != "select":
            return
        self._check_deadlines(supervisor)
        if supervisor.calls == self._seen_calls:
            return
        self._seen_calls = supervisor.calls
        for attempt in self.attempts.values():
            if attempt.sent and not attempt.is_lost:
                _, signum, kind = attempt.sent[-1]
                if kind == "supervisor" and signum not in (signal.SIGCONT, signal.SIGKILL):
                    raise self.broken("P14: no SIGCONT after the termination signal")
        if self.supervision is not None:
            try:
                self.supervision.check()
            except AssertionError as error:
                raise self.broken(f"invariant: {error}") from None

    def _check_deadlines(self, supervisor: Proc | None) -> None:
        """P6: whoever has to sends SIGKILL in time, if there is still somebody to send it to."""
        now = self._hub.now
        if supervisor is None and self._machine.keeper is None:
            return
        for attempt in self.attempts.values():
            if attempt.kill_due + SLACK + self.held_up >= now:
                continue
            if any(signum == signal.SIGKILL for _, signum, _ in attempt.sent):
                continue
            if any(process.pgid == attempt.process.pid for process in self.left_of(attempt)):
                late = now - attempt.kill_due
                raise self.broken(f"P6: SIGKILL to job {attempt.job_id} is {late:.1f} s late")
