"""Labs: one way to play programs on the real kernel and on the fake one, for the contract suite."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import uuid
from pathlib import Path
from typing import Protocol

from support import waiting
from support.fake_kernel import FakeKernel, Process
from support.waiting import Fifo
from torc_supervise.posix import marks
from torc_supervise.posix.kernel import Kernel, RealKernel
from torc_supervise.posix.marks import NONCE
from torc_supervise.posix.subreaper import PR_SET_CHILD_SUBREAPER, become_subreaper

PUPPET = Path(__file__).with_name("children") / "puppet.py"


class Lab(Protocol):
    """``start`` spawns a leader by the kernel under test; the rest is what programs do.

    Each method returns when what it asks for has happened.
    """

    kernel: Kernel

    def start(self) -> int: ...
    def fork(self, pid: int) -> int: ...
    def setsid(self, pid: int) -> None: ...
    def ignore(self, pid: int, signum: int) -> None: ...
    def note(self, pid: int, signum: int) -> None: ...
    def exit(self, pid: int, code: int = 0) -> None: ...
    def reap(self, parent: int, pid: int) -> None: ...

    def expect_signal(self, pid: int, signum: int) -> None:
        """Wait until a process that notes this signal has got it."""

    def expect_end(self, watch: int) -> None:
        """Wait until a descriptor of ``Kernel.watch`` says that its process has ended."""

    def until_dead(self, pid: int) -> None: ...
    def state(self, pid: int) -> str | None:
        """``alive``, ``zombie``, or None."""

    def group(self, pid: int) -> tuple[int, int]:
        """Process group and session."""

    def close(self) -> None:
        """End everything; fails where a signal came that no test expected."""


class RealLab:
    def __init__(self, directory: Path) -> None:
        assert become_subreaper() is None
        self.kernel: Kernel = RealKernel()
        self._directory = directory
        self._said = Fifo(directory / "said")
        self._started: set[int] = set()
        self._nonce = uuid.uuid4().hex
        marks.PATIENCE = (
            waiting.LIMIT
        )  # on a busy machine a look would be refused, and nobody here looks again

    def start(self, *, marked: bool = True) -> int:
        mark = {NONCE: self._nonce, "TORC_JOB_ID": str(len(self._started))}
        pid = self.kernel.spawn(
            (sys.executable, str(PUPPET), str(self._directory)), {**os.environ, **(mark if marked else {})}
        )
        self._started.add(pid)
        self._said.expect(1, f"{pid} ready")
        return pid

    def fork(self, pid: int) -> int:
        self._tell(pid, "fork")
        child = int(self._said.expect(1, f"{pid} forked")[0].split()[2])
        self._started.add(child)
        self._said.expect(1, f"{child} ready")
        return child

    def setsid(self, pid: int) -> None:
        self._do(pid, "setsid")

    def ignore(self, pid: int, signum: int) -> None:
        self._do(pid, f"ignore {signum:d}")

    def note(self, pid: int, signum: int) -> None:
        self._do(pid, f"note {signum:d}")

    def exit(self, pid: int, code: int = 0) -> None:
        self._tell(pid, f"exit {code}")
        self.until_dead(pid)

    def reap(self, parent: int, pid: int) -> None:
        self._do(parent, f"reap {pid}")

    def expect_signal(self, pid: int, signum: int) -> None:
        self._said.expect(1, f"{pid} got {signum:d}")

    def expect_end(self, watch: int) -> None:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert poll.poll(waiting.LIMIT * 1000)
        os.close(watch)

    def until_dead(self, pid: int) -> None:
        waiting.wait_for_end(pid)

    def state(self, pid: int) -> str | None:
        letter = waiting.state_of(pid)
        return None if letter is None else "zombie" if letter == "Z" else "alive"

    def group(self, pid: int) -> tuple[int, int]:
        return os.getpgid(pid), os.getsid(pid)

    def close(self) -> None:
        # A pid that was collected is not ours any more; only those that are still our puppets are killed.
        needle = str(self._directory).encode()
        mine = [pid for pid in self._started if needle in waiting.command_line(pid)]
        waiting.kill_all(mine)
        for pid in mine:
            waiting.wait_for_end(pid)
        for pid in waiting.children_of(os.getpid()):
            if pid in self._started:
                os.waitpid(pid, 0)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        unexpected = [line for line in self._said.drain() if " got " in line]
        self._said.close()
        assert unexpected == []

    def _tell(self, pid: int, command: str) -> None:
        with open(self._directory / str(pid), "w", encoding="ascii") as fifo:
            fifo.write(f"{command}\n")

    def _do(self, pid: int, command: str) -> None:
        self._tell(pid, command)
        self._said.expect(1, f"{pid} done")


class FakeLab:
    def __init__(self, directory: Path) -> None:
        self.fake = FakeKernel()
        self.kernel: Kernel = self.fake
        self._noted: list[tuple[int, int]] = []

    def start(self) -> int:
        return self.kernel.spawn(("/bin/puppet",), {})

    def fork(self, pid: int) -> int:
        return self.fake.fork(pid)

    def setsid(self, pid: int) -> None:
        self.fake.setsid(pid)

    def ignore(self, pid: int, signum: int) -> None:
        self.fake.handle(pid, signum, lambda process, signum: None)

    def note(self, pid: int, signum: int) -> None:
        self.fake.handle(pid, signum, self._note)

    def exit(self, pid: int, code: int = 0) -> None:
        self.fake.exit(pid, code)

    def reap(self, parent: int, pid: int) -> None:
        assert self.fake.processes[pid].parent == parent
        self.fake.reap(pid)

    def expect_signal(self, pid: int, signum: int) -> None:
        self._noted.remove((pid, signum))

    def expect_end(self, watch: int) -> None:
        assert watch in self.fake.ended_watches()
        self.fake.close_watch(watch)

    def until_dead(self, pid: int) -> None:
        process = self.fake.processes.get(pid)
        assert process is None or not process.alive

    def state(self, pid: int) -> str | None:
        process = self.fake.processes.get(pid)
        return None if process is None else "alive" if process.alive else "zombie"

    def group(self, pid: int) -> tuple[int, int]:
        process = self.fake.processes[pid]
        return process.pgid, process.sid

    def close(self) -> None:
        self.fake.check()
        assert self._noted == []

    def _note(self, process: Process, signum: int) -> None:
        self._noted.append((process.pid, signum))
