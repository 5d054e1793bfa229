"""Waiting for processes without sleeping: pipes, pidfds and ends of file, each with one generous limit."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from torc_supervise.posix.clock import boot_offset

LIMIT = 150.0
"""Seconds after which a wait fails its test.  It says that something hangs, never how fast something is."""


BETWEEN_LOOKS = 0.001  # seconds


class Fifo:
    """A named pipe that the test reads lines from and children write lines to.

    It is held open for writing as well, so that it never comes to its end.  A line is shorter than PIPE_BUF, so lines
    of many children do not mix.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self.lines: list[str] = []  # arrived and not yet taken

    def expect(self, count: int = 1, starting_with: str = "", *, unless_gone: int | None = None) -> list[str]:
        """Take ``count`` lines with that beginning.

        Args:
            unless_gone: a pid; fail at once when this process has ended, because nothing more will come.
        """
        deadline = time.monotonic() + LIMIT
        while True:
            matching = [line for line in self.lines if line.startswith(starting_with)]
            if len(matching) >= count:
                taken = matching[:count]
                for line in taken:
                    self.lines.remove(line)
                return taken
            left = deadline - time.monotonic()
            assert left > 0, (
                f"{len(matching)} of {count} lines {starting_with!r} came; others: {self.lines[:5]}"
            )
            self._wait(left, unless_gone)

    def drain(self) -> list[str]:
        """Everything that has arrived so far."""
        self._read()
        lines, self.lines = self.lines, []
        return lines

    def put(self, data: bytes) -> None:
        """Write: for children that read from it."""
        os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)

    def _wait(self, seconds: float, pid: int | None) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            pidfd = os.pidfd_open(pid) if pid is not None else None
        except ProcessLookupError:
            # What it was waited for may have come before it ended, after our last look.
            assert self._read(), f"process {pid} has ended; lines: {self.lines[:5]}"
            return
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(seconds * 1000)]
        if pidfd is not None:
            os.close(pidfd)
        came = self._read()
        assert came or pidfd is None or pidfd not in ready, (
            f"process {pid} has ended; lines: {self.lines[:5]}"
        )

    def _read(self) -> bool:
        came = False
        while True:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                return came
            came = True
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.lines += [line.decode() for line in lines]


class EndOfFile:
    """A named pipe that processes hold open for writing; its end of file says that all of them are gone."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self) -> None:
        """Until no process holds it any more.  At least one must have opened it before."""
        deadline = time.monotonic() + LIMIT
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ready, "a process of the job is still there"
            if os.read(self._fd, 65536) == b"":
                return

    def held(self) -> bool:
        """Does any process hold it open?  (Also False before anybody has opened it.)"""
        try:
            return os.read(self._fd, 65536) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        os.close(self._fd)


def wait_for_end(pid: int) -> None:
    """Until process ``pid`` is dead (a zombie counts)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ready = poll.poll(LIMIT * 1000)
    os.close(pidfd)
    assert ready, f"process {pid} does not end"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """For facts that nothing announces, such as the state in /proc.

    Between two looks it is off the CPU for a moment: where there are few of them, those who are waited for need it, and
    sched_yield would leave them half of it at best.
    """
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], BETWEEN_LOOKS)


def state_of(pid: int) -> str | None:
    """The state letter in /proc/PID/stat; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def started_at(pid: int) -> float:
    """Monotonic seconds, as exact as ticks: when a process that is there was started, however late this is asked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") - boot_offset()


def has_stopped(pid: int) -> bool:
    """Whether all of its threads have stopped; a dead process counts."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(state_of(int(thread)) in ("T", "Z", None) for thread in threads)


def wait_for_state(pid: int, letters: str) -> None:
    wait_until(
        lambda: (state_of(pid) or "gone") in letters, f"{pid} is {state_of(pid)}, not one of {letters}"
    )


def children_of(pid: int) -> list[int]:
    """In the order in which they became its children."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):
        return []


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def any_with(line: bytes) -> bool:
    """Does any living process have this command line?"""
    return any(command_line(int(name)) == line for name in os.listdir("/proc") if name.isdigit())


def name_of(pid: int) -> str:
    """As ``top`` shows it; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def signal_set(pid: int | str, field: str) -> set[int]:
    """SigBlk, SigIgn or SigCgt of /proc/PID/status; empty if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    bits = int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def ignores(pid: int, signum: int) -> bool:
    return signum in signal_set(pid, "SigIgn")


def marked(mark: str) -> list[int]:
    """All processes whose environment holds ``mark``."""
    found = []
    needle = mark.encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if needle in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        assert pid > 1, "that would be everybody"
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_marked(mark: str) -> list[int]:
    """End every process with that mark, and what they fork meanwhile; returns those that were found first."""
    first = marked(mark)
    found = first
    deadline = time.monotonic() + LIMIT
    while found:
        assert time.monotonic() < deadline, f"cannot be killed: {found}"
        kill_all(found)
        for pid in found:
            wait_for_end(pid)
        found = [pid for pid in marked(mark) if state_of(pid) not in ("Z", None)]
    return first
