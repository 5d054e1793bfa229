"""The kernel of the simulation: support.fake_kernel on the hub's clock, and what helpers ask of it besides.

A supervisor that was killed leaves its jobs to init, which collects what is dead at once.  Supervisors come one after
another here, and all have the number SUPERVISOR.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from simulator.fibers import Hub, Proc
from simulator.sockets import Descriptors, Selector
from simulator.stand_ins import BOOT_OFFSET, Waiting
from support.fake_kernel import SUPERVISOR, FakeKernel, Process
from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.groups import Delivery
from torc_supervise.posix.marks import NONCE
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.reap import NotNowError, Sweep
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError

if TYPE_CHECKING:
    from simulator.rules import Rules

INIT = 1
STRANGERS = 0.2  # share of the free numbers that a stranger gets
STRANGERS_STAY = 20.0  # seconds
STRANGER = {
    "TORC_WORKFLOW_ID": "7",
    "TORC_JOB_ID": "1",
    "TORC_ATTEMPT_ID": "1",
    "TORC_RUN_ID": "1",
    NONCE: "another",
}
_TICKS = os.sysconf("SC_CLK_TCK")


class SimulatedKernel(FakeKernel):
    """Every call of a process of ours is counted, may be its last, and is looked at by the rules."""

    cgroup = None

    def __init__(self, hub: Hub, descriptors: Descriptors, epoch_ahead: Callable[[], float]) -> None:
        self.hub, self.descriptors = hub, descriptors
        self.ours: dict[int, Proc] = {}
        self.deaths = Waiting(hub)
        self.rules: Rules
        self.supervisor: Proc | None = None  # the living one
        self.wake_supervisor: Callable[[], None] = lambda: None
        self.blind_until = 0.0  # /proc cannot be looked at
        self.dead_helpers: list[tuple[int, Exit]] = []
        self._epoch_ahead = epoch_ahead
        self._child_signal = False
        self._commands = 0  # how many there were
        self._given: dict[int, int] = {}  # number -> the tick in which it was given last
        super().__init__()
        self._behaviour = self.begin
        self.reaper = self  # as posix.kernel.RealKernel has one

    # -- the hub's clock ------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:  # type: ignore[override]
        return self.hub.now

    @_now.setter
    def _now(self, value: float) -> None: ...

    def schedule(self, delay: float, action: Callable[[], None]) -> None:
        self.hub.at(self.hub.now + delay, action)

    def wall(self) -> str:
        from torc_supervise.posix import clock

        return clock.iso(self.hub.now + self._epoch_ahead())

    @property
    def child_signal(self) -> bool:  # type: ignore[override]
        return self._child_signal

    @child_signal.setter
    def child_signal(self, value: bool) -> None:
        self._child_signal = value
        if value:
            self.wake_supervisor()

    # -- what the supervisor calls --------------------------------------------------------------------------

    def begin(self, process: Process) -> None:
        """Replaced by whoever plays the programs."""

    def add_helper(self, pid: int) -> None:
        """It is in ``ours`` already."""

    def spawn(
        self,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        cgroup: JobCgroup | None = None,
        *,
        stdin: int | None = None,
    ) -> int:
        self.hub.enter("posix_spawn")
        self.rules.spawning(environment)
        try:
            pid = super().spawn(argv, environment)
        except (SpawnRefusedError, SpawnFailedError) as error:
            self.rules.results.tried(environment, machine_full=isinstance(error, SpawnRefusedError))
            raise
        self.rules.results.tried(environment, machine_full=False)
        self.rules.spawned(self.processes[pid])
        self.hub.enter("posix_spawn, done")
        return pid

    def signal_group(self, pgid: int, signum: int) -> Delivery:
        return self.kill(-pgid, signum)

    def signal_process(self, pid: int, signum: int) -> Delivery:
        if self.hub.current is not None and self.hub.current.proc.kind == "supervisor":
            self.hub.enter("kill")
            self.rules.signalling(pid, signum, self.hub.me().proc)
        return super().signal_process(pid, signum)

    def signal_outside(self, signals: Mapping[int, int]) -> None:
        self._look()
        super().signal_outside(signals)

    def _look(self) -> None:
        self.hub.enter("look at /proc")
        if self.hub.now < self.blind_until:
            raise NotNowError

    def sweep(self) -> Sweep:
        self.hub.enter("waitid")
        helpers, self.dead_helpers = self.dead_helpers, []
        if self.hub.now < self.blind_until:
            self.dead_helpers = helpers
            raise NotNowError
        found = super().sweep()
        found.helpers += helpers
        return found

    def look_again(self) -> Sweep:
        self._look()
        return super().look_again()

    def escaped(self) -> list[int]:
        self._look()
        return super().escaped()

    def collect(self, pid: int) -> Usage | None:
        self.hub.enter("wait4")
        self.rules.collecting(pid)
        usage = super().collect(pid)
        self._let_in_a_stranger()
        return usage

    def watch(self, pid: int) -> int | None:
        self.hub.enter("pidfd_open")
        try:
            return self.pidfd_open(pid)
        except OSError:
            return None

    # -- what helpers and commands call ---------------------------------------------------------------------

    def kill(self, target: int, signum: int) -> Delivery:
        """kill(2), by a process of ours."""
        proc = self.hub.enter("kill")
        if target in self.ours:
            self.signal_ours(self.ours[target], signum)
            return Delivery.SENT
        if any(pid == target for pid, _ in self.dead_helpers):
            return Delivery.SENT  # a zombie
        self.rules.signalling(target, signum, proc)
        if target > 0:
            process = self.processes.get(target)
            if process is None:
                raise ProcessLookupError
            self.deliver(process, signum)
            return Delivery.SENT
        sent = super().signal_group(-target, signum)
        if sent is Delivery.NO_SUCH_GROUP and proc.kind != "supervisor":
            raise ProcessLookupError
        return sent

    def signal_ours(self, proc: Proc, signum: int) -> None:
        if signum == signal.SIGKILL:
            self.hub.bury(proc)
        elif signum == signal.SIGCONT:
            proc.frozen_until = 0.0

    def pidfd_open(self, pid: int) -> int:
        process = self.processes.get(pid)
        if process is None or process.exit is not None:
            raise ProcessLookupError
        return self.descriptors.add(PidFd(process))

    def fork(self, parent: int) -> int:
        pid = super().fork(parent)
        self.rules.attempts.forked(self.processes[pid], self.processes[parent])
        return pid

    def release_watch(self, descriptor: int) -> None:
        del self.descriptors.things[descriptor]

    def pidfd_send_signal(self, descriptor: int, signum: int) -> None:
        proc = self.hub.enter("pidfd_send_signal")
        process = self.descriptors.things[descriptor].process
        if not process.alive:
            raise ProcessLookupError
        self.rules.signalling(process.pid, signum, proc)
        self.deliver(process, signum)

    # -- /proc ----------------------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        return sorted([*self.processes, *self.ours])

    def everything(self) -> Iterator[ProcessStat]:
        self.hub.enter("scan /proc")
        return iter([found for pid in self.pids() if (found := self._stat(pid)) is not None])

    def stat(self, pid: int) -> ProcessStat | None:
        self.hub.enter("read /proc")
        return self._stat(pid)

    def _stat(self, pid: int) -> ProcessStat | None:
        proc = self.ours.get(pid)
        if proc is not None:
            return ProcessStat(pid, "S", INIT, pid, pid, self._in_ticks(proc.started))
        process = self.processes.get(pid)
        if process is None:
            return None
        state = "Z" if not process.alive else "D" if process.uninterruptible else "S"
        started = self._in_ticks(process.started)
        return ProcessStat(pid, state, process.parent, process.pgid, process.sid, started, 1, 1)

    @staticmethod
    def _in_ticks(moment: float) -> int:
        return int((moment + BOOT_OFFSET) * _TICKS)

    def environment_block(self, about: ProcessStat) -> bytes | None:
        """Stands for ``posix.marks.environment_block``."""
        process = self.processes.get(about.pid)
        if process is not None and process.uninterruptible:
            return None
        return b"" if process is None else _block(process)

    def read_environment(self, pid: int) -> bytes | None:
        """Stands for ``posix.marks.read_environment``."""
        if self.hub.now < self.blind_until:
            return None
        process = self.processes.get(pid)
        return b"" if process is None or not process.alive else _block(process)

    # -- the end of a supervisor ----------------------------------------------------------------------------

    def supervisor_began(self, proc: Proc) -> None:
        self.supervisor = proc
        self.dead_helpers.clear()
        self._child_signal = False

    def supervisor_ended(self) -> None:
        self.supervisor = None
        self.wake_supervisor = lambda: None
        self._leaders.clear()
        self._seen_dead.clear()
        self._asked.clear()
        self.dead_helpers.clear()
        for process in self._children_of(SUPERVISOR):
            process.parent = INIT
            self._collect_as_init(process)

    def helper_ended(self, proc: Proc) -> None:
        self.ours.pop(proc.pid, None)
        if self.supervisor is not None:
            exit_: Exit = Signaled(signal.SIGKILL) if proc.exit_code is None else Exited(proc.exit_code)
            self.dead_helpers.append((proc.pid, exit_))
            self.child_signal = True

    def _collect_as_init(self, process: Process) -> None:
        if process.parent == INIT and not process.alive:
            self.processes.pop(process.pid, None)
            if process.environment.get(NONCE) != STRANGER[NONCE]:
                self._let_in_a_stranger()

    def _let_in_a_stranger(self) -> None:
        """A number is free: sometimes the next one to get it is a job of another supervisor of the same user."""
        if self.hub.random.random() < STRANGERS:
            self.schedule(self.hub.random.choice((0.0, 0.01, 1.0)), self._begin_stranger)

    def _begin_stranger(self) -> None:
        pid = self._free_pid()
        stranger = self.processes[pid] = Process(pid, INIT, pid, pid, self.hub.now, 0, (), STRANGER)
        self.schedule(STRANGERS_STAY, lambda: stranger.alive and self.exit(pid))

    def _end(self, process: Process, exit_: Exit) -> None:
        super()._end(process, exit_)
        self.rules.ended(process)
        if self.supervisor is None:
            for child in self._children_of(SUPERVISOR):
                child.parent = INIT
                self._collect_as_init(child)
        elif process.parent not in (SUPERVISOR, INIT):
            del self.processes[process.pid]  # its parent waits for it at once
        self._collect_as_init(process)
        self.deaths.wake()
        for thing in self.descriptors.things.values():
            if isinstance(thing, PidFd) and thing.process is process and thing.selector is not None:
                thing.selector.wake()

    def _free_pid(self) -> int:
        numbers = ((p.pid, p.pgid, p.sid, p.leader) for p in self.processes.values())
        used = {*itertools.chain.from_iterable(numbers), *self.ours}
        tick = self._in_ticks(self.hub.now)
        # No machine gives a number twice within a tick: number and start time are a name.
        pid = next(pid for pid in itertools.count(100) if pid not in used and self._given.get(pid) != tick)
        self._given[pid] = tick
        return pid

    def free_pid(self) -> int:
        return self._free_pid()

    def command_pid(self) -> int:
        """Of a process that nobody takes for one of a job: numbers come in turn, and jobs have just begun."""
        self._commands += 1
        return 50_000 + self._commands

    def check(self) -> None:
        """The base class's rule about parents, with init."""


class PidFd:
    """Readable when its process is dead."""

    selector: Selector | None = None
    writable = False

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def readable(self) -> bool:
        return not self.process.alive


def _block(process: Process) -> bytes:
    return b"\0".join(f"{name}={value}".encode() for name, value in process.environment.items())
