"""A fan: hundreds of children that tell when they are ready, and when the signal reached each of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import floor, workflows

READY_WITHIN = 60.0
GONE_WITHIN = 15.0
"""Seconds, after which a subject is said to hang."""

SETTLED_AFTER = 1.0
"""Seconds between the last child's start and the signal: circus ignores one that comes while it starts them."""

Start = Callable[[Path, int, list[str], signal.Signals], "Fan"]
"""Starts ``count`` children of these words under a subject, in a directory; this signal is to end them."""


class Fan:
    """A running subject.  ``process`` is what is signalled and waited for."""

    def __init__(self, process: subprocess.Popen[bytes], tidy: Callable[[], None] = lambda: None) -> None:
        self.process = process
        self.tidy = tidy

    def signal(self) -> int:
        """SIGTERM to it; returns nanoseconds on the monotonic clock."""
        began = time.monotonic_ns()
        self.process.send_signal(signal.SIGTERM)
        return began

    def gone(self) -> int | None:
        """Waits for its end; nanoseconds on the monotonic clock, None if it hung and was killed."""
        try:
            self.process.wait(GONE_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        else:
            return time.monotonic_ns()
        finally:
            self.tidy()


class Children:
    """What the children write to: the same program under every subject."""

    def __init__(self, directory: Path, save_seconds: float = 0.0) -> None:
        self._fifo = directory / "ready"
        self._log = directory / "received"
        os.mkfifo(self._fifo)
        self._log.touch()
        self._reader = os.open(self._fifo, os.O_RDWR)
        self.words = [floor.program("receiver"), str(self._fifo), str(self._log), str(save_seconds)]

    def wait_until_ready(self, count: int) -> list[int]:
        """Their pids.

        Raises:
            TimeoutError: some are missing.
        """
        got = b""
        until = time.monotonic() + READY_WITHIN
        while len(got) < 8 * count:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                raise TimeoutError(f"{len(got) // 8} of {count} children are ready")
            got += os.read(self._reader, 65536)
        os.close(self._reader)
        return [int(got[at : at + 8]) for at in range(0, len(got), 8)]

    def stamps(self, what: str) -> list[int]:
        """Nanoseconds on the monotonic clock, ascending; ``what``: "r" for received, "s" for saved."""
        lines = (line.split() for line in self._log.read_text().splitlines())
        return sorted(int(at) for kind, at in lines if kind == what)


def terminate(directory: Path, start: Start, count: int, save_seconds: float = 0.0) -> dict[str, float]:
    """SIGTERM to the subject; milliseconds until the children have it, and until the subject is gone.

    ``exit_ms`` counts from the same moment; with ``save_seconds`` those are subtracted, so it is what was added.
    ``reached`` and ``saved``: children that got the signal, and that lived to save.
    """
    children = Children(directory, save_seconds)
    fan = start(directory, count, children.words, signal.SIGTERM)
    pids = ready(fan, children, count)
    began = fan.signal()
    gone = fan.gone()
    if gone is None:
        _end(pids)
    received = children.stamps("r")
    values = {"reached": float(len(received))}
    if gone is not None:
        values["exit_ms"] = (gone - began) / 1e6 - save_seconds * 1e3
    if save_seconds:
        values["saved"] = float(len(children.stamps("s")))
    return spread(began, received) | values


def kill(directory: Path, start: Start, count: int) -> dict[str, float]:
    """SIGTERM to a subject that is to end its children by SIGKILL; milliseconds until they are dead, and it is gone."""
    children = Children(directory)
    fan = start(directory, count, children.words, signal.SIGKILL)
    deaths = _Deaths(ready(fan, children, count))
    began = fan.signal()
    dead = deaths.wait()
    gone = fan.gone()
    values = {"reached": float(len(dead))}
    if gone is not None:
        values["exit_ms"] = (gone - began) / 1e6
    return spread(began, dead) | values


def _end(pids: list[int]) -> None:
    """Children of a subject that hung and was killed: nobody else sees to them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ready(fan: Fan, children: Children, count: int) -> list[int]:
    """The children's pids, when all are ready, and the subject has had a moment for what follows its last start.

    Raises:
        TimeoutError: some are missing; the subject was killed.
    """
    try:
        pids = children.wait_until_ready(count)
    except TimeoutError:
        fan.process.kill()
        fan.process.wait()
        fan.tidy()
        raise
    with contextlib.suppress(subprocess.TimeoutExpired):  # that it still runs is what is expected
        fan.process.wait(SETTLED_AFTER)
    return pids


def spread(began: int, times: list[int]) -> dict[str, float]:
    """Milliseconds from ``began`` to the first, median, 99th percentile and last of these nanoseconds."""
    after = [(at - began) / 1e6 for at in sorted(times)]
    if not after:
        return {}
    return {
        "first_ms": after[0],
        "median_ms": after[len(after) // 2],
        "p99_ms": after[min(len(after) - 1, len(after) * 99 // 100)],
        "last_ms": after[-1],
    }


class _Deaths:
    """When each of these processes ends, seen through pidfds from outside; the same for every subject."""

    def __init__(self, pids: list[int]) -> None:
        self._left = len(pids)
        self._epoll = select.epoll()
        for descriptor in map(os.pidfd_open, pids):
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def wait(self) -> list[int]:
        """Nanoseconds on the monotonic clock."""
        times: list[int] = []
        while len(times) < self._left:
            events = self._epoll.poll(GONE_WITHIN)
            now = time.monotonic_ns()
            if not events:
                break
            times += [now] * len(events)
            for descriptor, _ in events:
                os.close(descriptor)
        self._epoll.close()
        return times


def ours(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    may_save = signum != signal.SIGKILL
    path = workflows.sweep(directory, count, workflows.exec_of(*words), supports_termination=may_save)
    return Fan(workflows.start(directory, path, count))


def bare(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    """The C loop."""
    return Fan(subprocess.Popen([floor.program("killpg_loop"), str(count), str(int(signum)), *words]))
