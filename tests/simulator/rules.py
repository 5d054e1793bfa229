"""Rules: the promises P1 to P14 as far as they can be seen from outside, checked after every event.

What is looked at are system calls, processes, what the keeper tells its parent and what is on the disk; of the
variables of the program only that they agree with each other.  ``results.py`` has the rules about records, ``audit.py``
those about the end of a day.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from simulator.attempts import Attempt, Attempts
from simulator.fibers import NEVER, Broken, Proc
from simulator.results import Results
from support.fake_kernel import Process
from torc_supervise.machine import deadlines
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.interrupts import SECOND_AFTER
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.machine.phases import Lingering
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.supervision import Supervision
from torc_supervise.workflow.model import Job

if TYPE_CHECKING:
    from simulator.machine import Machine

TERMINATION = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
SLACK = 1.0  # seconds by which something may be late for no reason that a rule knows
LEFTOVER_GRACE = 5.0  # docs/signals.md


class Rules:
    """Told by the kernel and the links what is about to happen, before it happens."""

    def __init__(self, machine: Machine) -> None:
        self._hub, self._machine = machine.hub, machine
        kernel = machine.kernel
        self.attempts = Attempts(kernel.processes)
        self.results = Results(machine.hub, self.attempts, lambda: kernel.blind_until)
        self.state: WorkflowState | None = None
        self.supervision: Supervision | None = None
        self.walls: list[tuple[float, WallTime]] = []  # since when each is reckoned with
        self.asked_at: float | None = None  # when somebody asked for the end, and was heard
        self.is_wanted = False  # its end, by somebody who may not have been heard yet
        self.told: set[int] = set()  # signals that have reached a working supervisor
        self.interrupts: list[float] = []
        self.held_up = 0.0  # seconds for which processes were frozen, or /proc could not be looked at
        self.in_loop = False
        self._seen_calls = -1

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
        self.results.records.clear()

    # -- P7, P11: starts ------------------------------------------------------------------------------------

    def spawning(self, environment: Mapping[str, str]) -> None:
        if self.asked_at is not None:
            raise self.broken("P7: a job is started after termination was asked for")
        if self.walls and self._hub.now >= self.walls[-1][1].kill_at:
            raise self.broken("P7: a job is started after the last moment")

    def spawned(self, process: Process) -> None:
        new = self.attempts.add(process, self._hub.now)
        for other in self.attempts:
            same = (other.job_id, other.run_id) == (new.job_id, new.run_id)
            # One that is stuck in the kernel and not on record shows nobody whose it is.
            is_hidden = other.is_lost and not other.is_known and other.process.uninterruptible
            if same and other is not new and other.exited == NEVER and not is_hidden:
                raise self.broken(f"P9: job {new.job_id} runs twice at a time")

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
        attempt = self.attempts.led_by(leader)
        hit = [process for process in kernel.processes.values() if process.pgid == -target and process.alive]
        if who == "supervisor":
            if attempt is None or -target not in kernel._leaders:
                raise self.broken(f"P3: a signal to group {-target}, whose leader was reaped")
            self._check_signal(attempt, signum)
        for process in hit:
            if self.attempts.of(process) is None:
                raise self.broken(f"P3: {who} sends signal {signum} to a stranger")
        if attempt is None and hit:  # the leader is gone
            # What has wiped its environment, in a group with the number of a job of that second, passes for its own.
            if not any(process.environment for process in hit):
                return
            attempt = self.attempts.of(hit[0])
        if attempt is not None:
            if who != "supervisor" and signum == signal.SIGKILL:
                self._check_kill(attempt)
            attempt.sent.append((self._hub.now, signum, who))
            self._reckon(attempt, signum)

    def _signalling_process(self, process: Process | None, signum: int, who: str) -> None:
        if process is None:
            return
        attempt = self.attempts.of(process)
        if attempt is None:
            raise self.broken(f"P3: {who} sends signal {signum} to a stranger, {process.pid}")
        job = self.job(attempt.job_id)
        if process is attempt.process:
            if job.signal_scope != "leader" and who == "supervisor":  # a hunt goes from process to process
                raise self.broken(f"P2: signal {signum} goes to a leader alone")
            if who == "will" and signum == signal.SIGKILL:
                self._check_kill(attempt)
        if (
            process is attempt.process or not attempt.process.alive
        ):  # a will takes another one for the leader then
            attempt.sent.append((self._hub.now, signum, who))
            self._reckon(attempt, signum)

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
        hurried = len(self.interrupts) > 1 and self.interrupts[-1] - self.interrupts[0] >= SECOND_AFTER
        if hurried or near or self._term(attempt) == signal.SIGKILL:
            return
        runtime = job.requirements.runtime_seconds
        over = runtime is not None and now >= attempt.started + runtime
        if not asks:
            wanted = self.is_wanted or self.asked_at is not None or attempt.is_lost or over
            if job.supports_termination and not (attempt.is_lost and attempt.process.uninterruptible):
                raise self.broken(f"P6: job {job.job_id} is killed without having been asked")
            if not wanted:
                raise self.broken(f"P6: job {job.job_id} is killed and nobody has asked for it")
            return
        if attempt.is_lost and not job.supports_termination:
            return  # it may have had a few seconds for what it has left behind: who goes on does not know
        grace, _ = deadlines.grace_of(job, self.state.workflow.execution)
        grace *= min((wall.grace_scale for wall in walls), default=1.0)
        if attempt.exited < asks[0] + 1.0 or attempt.exited < now:
            grace = min(grace, LEFTOVER_GRACE)
        for wall in walls:
            grace = min(grace, (wall.end - asks[0]) / 2)
        if not over and now - asks[0] < grace - 1e-3:
            raise self.broken(f"P6: job {job.job_id} is killed {now - asks[0]:.3f} s after its signal")

    def _reckon(self, attempt: Attempt, signum: int) -> None:
        """By when SIGKILL has to follow.  Later requests change nothing (P6)."""
        if signum in (signal.SIGCONT, signal.SIGKILL) or attempt.kill_due < NEVER or self.state is None:
            return
        now, wall = self._hub.now, self.walls[-1][1] if self.walls else WallTime()
        grace, stated = deadlines.grace_of(self.job(attempt.job_id), self.state.workflow.execution)
        grace *= wall.grace_scale
        phase = self.supervision.phase(attempt.job_id) if self.supervision is not None else None
        if isinstance(phase, Lingering):  # a will, or a supervisor that has not looked yet, cannot tell
            grace, stated = LEFTOVER_GRACE, True
        attempt.kill_due = now + grace
        if wall.known and not stated:
            attempt.kill_due = max(attempt.kill_due, wall.kill_at)

    # -- P3, P4, P5: ends -----------------------------------------------------------------------------------

    def collecting(self, pid: int) -> None:
        attempt = self.attempts.led_by(self._machine.kernel.processes.get(pid))
        left = self.attempts.left_of(attempt) if attempt is not None else []
        if left and any(p.pgid == pid for p in left):
            raise self.broken(f"P3: leader {pid} is reaped while its group has members")
        if left:
            raise self.broken(
                f"P5: leader {pid} is reaped while processes of its job live outside of its group"
            )

    def ended(self, process: Process) -> None:
        attempt = self.attempts.led_by(process)
        if attempt is not None:
            attempt.exited = self._hub.now

    def supervisor_ended(self) -> None:
        for attempt in self.attempts:
            attempt.is_lost = True
            attempt.kill_due = NEVER  # whoever goes on reckons with what it has heard of
        self.supervision, self.in_loop = None, False

    def keeper_ended(self) -> None:
        """What it knew and did not write nobody knows."""
        for attempt in self.attempts:
            attempt.is_known = False

    def will_begins(self, live: Mapping[int, LiveAttempt]) -> None:
        """A last will begins, which knows of these attempts."""
        assert self.state is not None
        wall = self.walls[-1][1] if self.walls else WallTime()
        for attempt in self.attempts:
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

    # -- P1, P8 ----------------------------------------------------------------------------------------------

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
        if isinstance(record, r.TerminationStarted) and self.asked_at is None:
            self.asked_at = self._hub.now
        self.results.recorded(record)

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
        for attempt in self.attempts:
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
        for attempt in self.attempts:
            if attempt.is_lost and not attempt.is_known and attempt.process.uninterruptible:
                continue  # not on record, and stuck: it cannot be asked whose it is
            if attempt.kill_due + SLACK + self.held_up >= now:
                continue
            if any(signum == signal.SIGKILL for _, signum, _ in attempt.sent):
                continue
            if any(process.pgid == attempt.process.pid for process in self.attempts.left_of(attempt)):
                late = now - attempt.kill_due
                raise self.broken(f"P6: SIGKILL to job {attempt.job_id} is {late:.1f} s late")
