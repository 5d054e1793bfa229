"""FakeKernel: an in-memory Linux with a virtual clock, as far as the supervisor can tell.

It keeps a process table with parents, groups, sessions, zombies, orphans and stopped processes, and implements
``posix.kernel.Kernel``.  It is trusted because it passes the same contract suite as the real kernel
(tests/posix/test_kernel_contract.py).  Pids are reused as early as the rules allow, so that a supervisor that signals a
number after it let go of it hits a stranger here, and its test fails.

Two sides.  The supervisor calls the methods of ``Kernel``.  The test, or the simulator, plays the programs: it forks,
exits, leaves sessions, handles signals, and moves the clock.
"""

from __future__ import annotations

import heapq
import itertools
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.reap import Sweep
from torc_supervise.posix.spawn import MACHINE_FULL, SpawnFailedError, SpawnRefusedError

SUPERVISOR = 2
"""Pid of the supervisor, which is a child subreaper: orphans below it become its children."""

FIRST_PID = 100
NO_USAGE = Usage(0, 0.0, 0.0)
_IGNORED_BY_DEFAULT = frozenset({signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT})
_STOPS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

Handler = Callable[["Process", int], None]
Behaviour = Callable[["Process"], None]


def ignore(process: Process, signum: int) -> None:
    """A handler that does nothing."""


@dataclass(eq=False, slots=True)
class Process:
    """One entry of the process table.  ``exit`` is set when it is a zombie."""

    pid: int
    parent: int
    pgid: int
    sid: int
    started: float
    leader: int  # of the job that it comes from
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    handlers: dict[int, Handler] = field(default_factory=dict)
    stopped: bool = False
    uninterruptible: bool = False  # in D state: even SIGKILL waits
    pending: list[int] = field(default_factory=list)
    passed_on: set[int] = field(default_factory=set)  # signals of its job that it got outside of the group
    received: list[int] = field(default_factory=list)  # signals that it acted on or ignored
    exit: Exit | None = None
    usage: Usage = NO_USAGE

    @property
    def alive(self) -> bool:
        return self.exit is None


class FakeKernel:
    """Implements ``posix.kernel.Kernel``.

    Args:
        behaviour: called with every process that the supervisor spawns, to install handlers and plan its life with
            :meth:`schedule`.

    Invariants (:meth:`check`): every parent is in the table or is the supervisor; a number is in use as long as a
    process or a group has it.
    """

    def __init__(self, behaviour: Behaviour | None = None, start: float = 1000.0) -> None:
        self.processes: dict[int, Process] = {}
        self.spawn_errors: list[int | None] = []  # for the next spawns, in order: errno, or None to succeed
        self.child_signal = False  # SIGCHLD is pending for the supervisor; it coalesces
        self.sent: list[tuple[float, int, int]] = []  # (time, pid or -pgid, signum), as the supervisor asked
        self.collected: list[int] = []  # leaders, in the order of their collection
        self._behaviour = behaviour
        self._now = start
        self._timers: list[tuple[float, int, Callable[[], None]]] = []  # heap
        self._ticket = itertools.count()
        self._leaders: set[int] = set()  # not collected
        self._seen_dead: set[int] = set()
        self._watches: dict[int, Process] = {}  # descriptor -> process
        self._asked: dict[int, int] = {}  # leader -> signal for what left its group

    # -- Kernel: what the supervisor calls --------------------------------------------------------------------

    def spawn(
        self, argv: tuple[str, ...], environment: Mapping[str, str], cgroup: JobCgroup | None = None
    ) -> int:
        number = self.spawn_errors.pop(0) if self.spawn_errors else None
        if number is not None:
            if number in MACHINE_FULL:
                raise SpawnRefusedError(number)
            raise SpawnFailedError(number, f"{argv[0]}: errno {number}")
        pid = self._free_pid()
        process = Process(pid, SUPERVISOR, pid, pid, self._now, pid, argv, dict(environment))
        self.processes[pid] = process
        self._leaders.add(pid)
        if self._behaviour is not None:
            self._behaviour(process)
        return pid

    def signal_group(self, pgid: int, signum: int) -> Delivery:
        if pgid <= 1:
            raise ValueError(f"not a job's process group: {pgid}")
        self.sent.append((self._now, -pgid, signum))
        members = [process for process in self.processes.values() if process.pgid == pgid]
        for process in members:
            self.deliver(process, signum)
        return Delivery.SENT if members else Delivery.NO_SUCH_GROUP

    def signal_process(self, pid: int, signum: int) -> Delivery:
        if pid <= 1:
            raise ValueError(f"not a job's process: {pid}")
        self.sent.append((self._now, pid, signum))
        process = self.processes.get(pid)
        if process is None:
            return Delivery.NO_SUCH_GROUP
        self.deliver(process, signum)
        return Delivery.SENT

    def signal_outside(self, signals: Mapping[int, int]) -> None:
        for leader, signum in signals.items():
            if leader in self._leaders:
                self._asked[leader] = signum
        for process in list(self.processes.values()):
            if process.leader in signals:
                self._pass_on(process)

    def sweep(self) -> Sweep:
        found = Sweep()
        if all(process.alive for process in self._children_of(SUPERVISOR)):
            return found
        for pid in sorted(self._leaders - self._seen_dead):
            exit_ = self.processes[pid].exit
            if exit_ is not None:
                self._seen_dead.add(pid)
                found.exited.append((pid, exit_))
        return self._with_members(found)

    def look_again(self) -> Sweep:
        return self._with_members(Sweep())

    def collect(self, pid: int) -> Usage | None:
        process = self.processes.get(pid)
        if process is None or process.parent != SUPERVISOR:
            return None
        assert process.exit is not None, "collecting a living leader would wait"
        self._leaders.discard(pid)
        self._seen_dead.discard(pid)
        self._asked.pop(pid, None)
        self.collected.append(pid)
        del self.processes[pid]
        return process.usage

    def escaped(self) -> list[int]:
        found = self._with_members(Sweep())  # collects dead orphans
        assert not found.exited
        orphans = [process for process in self._children_of(SUPERVISOR) if process.pid not in self._leaders]
        return [process.pid for process in orphans if process.leader not in self._leaders]

    def watch(self, pid: int) -> int | None:
        process = self.processes.get(pid)
        if process is None:
            return None
        descriptor = 1000 + next(self._ticket)
        self._watches[descriptor] = process
        return descriptor

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> str:
        moment = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._now)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # -- what programs do -------------------------------------------------------------------------------------

    def fork(self, parent: int) -> int:
        """A child in the group and session of its parent, with its handlers."""
        of = self.processes[parent]
        assert of.alive
        pid = self._free_pid()
        self.processes[pid] = Process(
            pid, parent, of.pgid, of.sid, self._now, of.leader, of.argv, of.environment, dict(of.handlers)
        )
        return pid

    def setsid(self, pid: int) -> None:
        process = self.processes[pid]
        process.pgid = process.sid = pid

    def exit(self, pid: int, code: int = 0, usage: Usage | None = None) -> None:
        """It calls exit(code)."""
        process = self.processes[pid]
        if process.alive:
            process.usage = usage or process.usage
            self._end(process, Exited(code))

    def reap(self, pid: int) -> None:
        """Its parent, which is not the supervisor, waits for it."""
        process = self.processes[pid]
        assert process.exit is not None
        assert process.parent != SUPERVISOR
        del self.processes[pid]

    def handle(self, pid: int, signum: int, handler: Handler) -> None:
        self.processes[pid].handlers[signum] = handler

    def deliver(self, process: Process, signum: int) -> None:
        """What kill(2) does to one process."""
        if not process.alive or signum == 0:
            return
        if signum == signal.SIGCONT:
            process.stopped = False
        elif signum in _STOPS and signum not in process.handlers:
            process.stopped = True
            return
        if signum not in process.pending:  # standard signals coalesce
            process.pending.append(signum)
        self._act_on_pending(process)

    def release(self, pid: int) -> None:
        """An uninterruptible process gets its disk back."""
        process = self.processes[pid]
        process.uninterruptible = False
        self._act_on_pending(process)

    # -- the clock --------------------------------------------------------------------------------------------

    def schedule(self, delay: float, action: Callable[[], None]) -> None:
        """Have ``action`` happen in ``delay`` seconds; those of one moment happen in the order of their planning."""
        heapq.heappush(self._timers, (self._now + delay, next(self._ticket), action))

    @property
    def next_timer(self) -> float:
        """Time of the next planned action, infinity if there is none."""
        return self._timers[0][0] if self._timers else float("inf")

    def advance_to(self, at: float) -> None:
        """Move the clock, with all that was planned until then."""
        while self._timers and self._timers[0][0] <= at:
            self._now, _, action = heapq.heappop(self._timers)
            action()
        self._now = max(self._now, at)

    def take_child_signal(self) -> bool:
        """Was there a SIGCHLD since the last call?"""
        pending, self.child_signal = self.child_signal, False
        return pending

    def ended_watches(self) -> list[int]:
        """Descriptors of :meth:`watch` that are readable, because their process is dead."""
        return [descriptor for descriptor, process in self._watches.items() if not process.alive]

    def close_watch(self, descriptor: int) -> None:
        del self._watches[descriptor]

    # -- inside -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if an invariant of the class does not hold."""
        for pid, process in self.processes.items():
            assert process.pid == pid
            assert process.parent == SUPERVISOR or process.parent in self.processes, "parent"
            if process.parent != SUPERVISOR:
                assert self.processes[process.parent].alive, "a dead process has no children"
        assert self._leaders <= self.processes.keys(), "leaders"

    def _free_pid(self) -> int:
        used = {
            number
            for process in self.processes.values()
            for number in (process.pid, process.pgid, process.sid)
        }
        return next(pid for pid in itertools.count(FIRST_PID) if pid not in used)

    def _children_of(self, pid: int) -> list[Process]:
        return [process for process in self.processes.values() if process.parent == pid]

    def _act_on_pending(self, process: Process) -> None:
        while process.alive and process.pending and not process.uninterruptible:
            if process.stopped and signal.SIGKILL not in process.pending:
                return
            first = signal.SIGKILL if signal.SIGKILL in process.pending else process.pending[0]
            process.pending.remove(first)
            process.received.append(first)
            handler = process.handlers.get(first) if first != signal.SIGKILL else None
            if handler is not None:
                handler(process, first)
            elif first not in _IGNORED_BY_DEFAULT:
                self._end(process, Signaled(first))

    def _end(self, process: Process, exit_: Exit) -> None:
        process.exit = exit_
        process.pending.clear()
        for child in self._children_of(process.pid):  # before the zombie is visible, as Linux does it
            child.parent = SUPERVISOR
            if not child.alive:
                self.child_signal = True
        if process.parent == SUPERVISOR:
            self.child_signal = True

    def _with_members(self, found: Sweep) -> Sweep:
        found.members = {pgid: [] for pgid in self._seen_dead}
        for orphan in self._children_of(SUPERVISOR):
            if orphan.pid not in self._leaders and not orphan.alive:
                del self.processes[orphan.pid]
        for process in list(self.processes.values()):
            if process.alive and process.leader in found.members:
                found.members[process.leader].append(process.pid)
                if process.parent != SUPERVISOR:
                    found.strangers.add(process.pid)
                if process.pgid != process.leader:
                    found.escaped.setdefault(process.leader, []).append(process.pid)
                    self._pass_on(process)
        return found

    def _pass_on(self, process: Process) -> None:
        signum = self._asked.get(process.leader)
        if (
            signum is None
            or not process.alive
            or process.pgid == process.leader
            or signum in process.passed_on
        ):
            return
        process.passed_on.add(signum)
        for each in [signum] if signum == signal.SIGKILL else [signum, signal.SIGCONT]:
            self.signal_process(process.pid, each)
