"""A simulated machine: its kernel, disk and network, and the processes of ours that live on it."""

from __future__ import annotations

import contextlib
import copy
import signal
from collections.abc import Callable, Iterable
from types import TracebackType

from msgspec.structs import replace

from simulator.disk import Disk
from simulator.fibers import Hub, Proc
from simulator.kernel import SimulatedKernel
from simulator.rules import Rules
from simulator.sockets import Network, Selector
from torc_supervise.helpers.keeper import KeeperSetup

COMMAND = 3  # pid of whoever else opens the workflow


class Machine:
    """``fatal_keepers``: for each keeper in order, the system call at which it dies (0: none)."""

    def __init__(self, seed: int) -> None:
        self.hub = Hub(seed)
        self.disk = Disk(self.hub)
        self.disk.epoch_ahead = 1.9e9
        self.net = Network(self.hub, self._told)
        self.kernel = SimulatedKernel(self.hub, self.net.descriptors, lambda: self.disk.epoch_ahead)
        self.printed: list[tuple[float, bytes]] = []
        self.rules = self.kernel.rules = Rules(self)
        self.hub.after = self.rules.check
        self.disk.reached = self.rules.disk_reached
        self.keepers: list[Proc] = []
        self.fatal_keepers: list[int] = []
        self.refused_forks = 0
        self.wakeup: Wakeup | None = None
        self.boot_id = "boot-1"
        self.journal = ""  # its path

    def start(self, kind: str, pid: int, main: Callable[[], None]) -> Proc:
        """A new process of ours that runs ``main``."""
        proc = Proc(pid, kind, self.hub.now)
        self.kernel.ours[pid] = proc
        proc.on_death.append(lambda: self.net.end_of(proc))
        if kind == "supervisor":
            self.kernel.supervisor_began(proc)
            proc.on_death.append(self._supervisor_ended)
            proc.on_death.append(lambda: self.kernel.ours.pop(pid, None))
        elif kind == "keeper":
            proc.on_death.append(lambda: self.kernel.helper_ended(proc))
            proc.on_death.append(self.rules.keeper_ended)
        else:
            proc.on_death.append(lambda: self.kernel.ours.pop(pid, None))
        self.hub.start_fiber(proc, "main", main)
        return proc

    def _supervisor_ended(self) -> None:
        self.wakeup = None
        self.rules.supervisor_ended()
        self.kernel.supervisor_ended()

    def run_to_end(self, proc: Proc, limit: float) -> bool:
        """False if it has not ended ``limit`` seconds from now."""
        return self.hub.run(lambda: proc.dead, self.hub.now + limit)

    def stop(self) -> None:
        """Unwind every fiber that is left, without effect: a greenlet that is thrown away would do it later."""
        self.hub.fail("the machine was switched off")
        for proc in list(self.kernel.ours.values()):
            self.hub.unwind(proc)

    @property
    def keeper(self) -> Proc | None:
        """The one that lives."""
        return next((proc for proc in self.keepers if not proc.dead), None)

    # -- what the seams put in place of ... -----------------------------------------------------------------

    def fork_helper(self, name: str, main: Callable[[], None], close: Iterable[int]) -> int:
        """... ``helpers.fork.fork_helper``."""
        hub = self.hub
        hub.enter("fork")
        if self.refused_forks:
            self.refused_forks -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")

        def child() -> None:  # as helpers.fork._child
            try:
                main()
            except OSError:  # the disk, where it begins
                proc.exit_code = 70

        proc = self.start("keeper", self.kernel.free_pid(), child)
        proc.fatal = self.fatal_keepers.pop(0) if self.fatal_keepers else 0
        self.keepers.append(proc)
        self.net.give_to(proc, set(close))
        hub.me().pause(hub.now, "fork")  # the child copies its parent's memory first: see copied
        return proc.pid

    def copied(self, setup: KeeperSetup) -> KeeperSetup:
        """What a fork copies; the workflow itself never changes."""
        workflow = setup.state.workflow
        state, lock = copy.deepcopy((setup.state, setup.lock), {id(workflow): workflow})
        return replace(setup, state=state, lock=lock)

    def make_wakeup(self, *, continued: bool = False) -> Wakeup:
        """... ``posix.wakeup.Wakeup``."""
        self.wakeup = Wakeup(self, continued)
        return self.wakeup

    def _told(self, proc: Proc, data: bytes) -> None:
        for line in data.splitlines():
            if line.startswith(b"A"):
                inode = self.disk.files.get(self.journal)
                durable = inode.durable.count(b"\n") if inode is not None else 0
                self.rules.results.confirmed(int(line[1:]), durable)
            elif line[:1] in b"CO":
                self.rules.is_wanted = True

    def signal_supervisor(self, signum: int) -> None:
        """From outside.  Before its handlers are there it dies of it; after the run it ignores it."""
        proc = self.kernel.supervisor
        if proc is None:
            return
        if self.wakeup is None:
            self.hub.kill(proc)
        elif self.wakeup.installed:
            self.wakeup.raise_(signum)


class Wakeup:
    """Flags and a readable descriptor; the bytes of the real one are hints only."""

    writable = False

    def __init__(self, machine: Machine, continued: bool) -> None:
        self._machine, self._continued = machine, continued
        self.installed = False
        self.selector: Selector | None = None
        self._raised: set[int] = set()
        self._number = machine.net.descriptors.add(self)

    def __enter__(self) -> Wakeup:
        self._machine.hub.enter("sigaction")
        self.installed = True
        self._machine.kernel.wake_supervisor = self._notify
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.installed = False

    def children_later(self) -> contextlib.nullcontext[None]:
        """Nothing runs here while its supervisor does; the next turn sees who has ended."""
        return contextlib.nullcontext()

    def raise_(self, signum: int) -> None:
        self._machine.rules.supervisor_signalled(signum)
        if signum == signal.SIGCONT and not self._continued:
            return
        self._raised.add(signum)
        self._notify()

    def _notify(self) -> None:
        if self.selector is not None:
            self.selector.wake()

    @property
    def readable(self) -> bool:
        return bool(self._raised) or self._machine.kernel.child_signal

    def fileno(self) -> int:
        return self._number

    def fds(self) -> tuple[int, int]:
        return self._number, self._number

    def take(self) -> list[int]:
        self._machine.hub.enter("read a signal")
        raised, self._raised = sorted(self._raised), set()
        if self._machine.kernel.take_child_signal():
            raised.append(signal.SIGCHLD)
        self._machine.rules.signals_taken(raised)
        return raised

    def ignore_from_now_on(self) -> None: ...
