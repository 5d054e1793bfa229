"""A fan: hundreds of children that tell when they are ready, and when the signal reached each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import floor

READY_WITHIN = 300.0
GONE_WITHIN = 120.0
"""Seconds, after which a subject is said to hang."""

Start = Callable[[Path, int, list[str]], "Fan"]
"""Starts ``count`` children of these words under a subject, in a directory."""


class Fan:
    """A running subject.  ``process`` is what is signalled and waited for."""

    def __init__(self, process: subprocess.Popen[bytes], tidy: Callable[[], None] = lambda: None) -> None:
        self.process = process
        self.tidy = tidy


class Children:
    """The files that the children write to."""

    def __init__(self, directory: Path, save_seconds: float = 0.0) -> None:
        self._fifo = directory / "ready"
        self._log = directory / "received"
        os.mkfifo(self._fifo)
        self._log.touch()
        self._reader = os.open(self._fifo, os.O_RDWR)
        self.words = [floor.program("receiver"), str(self._fifo), str(self._log), str(save_seconds)]

    def wait_until_ready(self, count: int) -> None:
        got = 0
        while got < count:
            got += len(os.read(self._reader, 65536))
        os.close(self._reader)

    def received(self) -> list[int]:
        """Nanoseconds on the monotonic clock, ascending."""
        return sorted(int(line) for line in self._log.read_text().splitlines())


def terminate(directory: Path, start: Start, count: int, save_seconds: float = 0.0) -> dict[str, float]:
    """SIGTERM to the subject; milliseconds until the children have it, and until the subject is gone.

    ``exit_ms`` counts from the same moment; with ``save_seconds`` those are subtracted, so it is what was added.
    """
    children = Children(directory, save_seconds)
    fan = start(directory, count, children.words)
    children.wait_until_ready(count)
    began = time.monotonic_ns()
    fan.process.send_signal(signal.SIGTERM)
    fan.process.wait(GONE_WITHIN)
    gone = time.monotonic_ns()
    fan.tidy()
    received = children.received()
    values = {"exit_ms": (gone - began) / 1e6 - save_seconds * 1e3, "reached": float(len(received))}
    if received:
        after = [(at - began) / 1e6 for at in received]
        values |= {
            "first_ms": after[0],
            "median_ms": after[len(after) // 2],
            "p99_ms": after[min(len(after) - 1, len(after) * 99 // 100)],
            "last_ms": after[-1],
        }
    return values


def ours(directory: Path, count: int, words: list[str]) -> Fan:
    from benchmarks import workflows

    path = workflows.sweep(directory, count, workflows.exec_of(*words), supports_termination=True)
    return Fan(workflows.start(directory, path, count))


def bare(directory: Path, count: int, words: list[str]) -> Fan:
    """The C loop."""
    return Fan(subprocess.Popen([floor.program("killpg_loop"), str(count), "15", *words]))
