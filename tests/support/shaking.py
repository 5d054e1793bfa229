"""Runs tests under a scheduler that means harm: now and then one of their processes gets hardly any CPU for a while.

    scripts/shake [--seed N] [PYTEST ARGUMENTS]

A process in SCHED_IDLE gets what the others leave (sched(7)), and a busy loop for each CPU leaves it next to nothing:
so it stands still between two instructions while all others run, which on a machine with time to spare happens to one
run in thousands.  What a new process inherits is taken from it mostly, or the whole family would be slow together.

Only root may take a process out of SCHED_IDLE again.  What has wiped its environment is not found, and left alone.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MARK = "SHAKEN"
BETWEEN_LOOKS = 0.0005  # seconds
CHANCE = 0.006  # of a process, in one look
LONGEST = 0.5  # seconds
INHERITS = 0.3  # chance that a process stays as slow as the one it was forked from
HOGS_PER_CPU = 1
NO_PRIORITY = os.sched_param(0)


class Shaker:
    """Slows the processes whose environment has the mark."""

    def __init__(self, mark: str, chance: random.Random) -> None:
        self._mark, self._random = mark.encode(), chance
        self._ours: dict[int, bool] = {}
        self._until: dict[int, float] = {}  # pid -> when it is let go, monotonic seconds
        self.count = 0

    def look(self, now: float) -> None:
        """Let go whose time is over, and choose others."""
        alive = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for gone in self._ours.keys() - alive:
            del self._ours[gone]
            self._until.pop(gone, None)
        for pid in alive:
            if pid not in self._ours:
                self._meet(pid)
            if not self._ours[pid]:
                continue
            if (until := self._until.get(pid)) is not None:
                if now >= until:
                    del self._until[pid]
                    schedule(pid, os.SCHED_OTHER)
            elif self._random.random() < CHANCE:
                self._until[pid] = now + self._random.random() ** 2 * LONGEST
                schedule(pid, os.SCHED_IDLE)
                self.count += 1

    def _meet(self, pid: int) -> None:
        try:
            ours = self._mark in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # another user's, a kernel thread, or gone
            ours = False
        self._ours[pid] = ours
        if ours and self._random.random() >= INHERITS:
            schedule(pid, os.SCHED_OTHER)


def schedule(pid: int, policy: int) -> None:
    try:
        os.sched_setscheduler(pid, policy, NO_PRIORITY)
    except ProcessLookupError:
        pass


def hog() -> int:
    """A child that is busy until its parent is gone; returns its pid."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    while os.getppid() == parent:
        pass
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/shake", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of whom it hits, and when (default: 1)")
    options, arguments = parser.parse_known_args()
    if os.geteuid() != 0:
        parser.error("it needs root: nobody else may take a process out of SCHED_IDLE again")
    mark = f"{MARK}={uuid.uuid4().hex}"
    shaker = Shaker(mark, random.Random(options.seed))
    name, _, value = mark.partition("=")
    hogs = [hog() for _ in range(HOGS_PER_CPU * len(os.sched_getaffinity(0)))]
    command = [sys.executable, "-m", "pytest", *arguments]
    with subprocess.Popen(command, env={**os.environ, name: value}) as tests:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        ended = os.pidfd_open(tests.pid)
        while not select.select([ended], [], [], BETWEEN_LOOKS)[0]:
            shaker.look(time.monotonic())
    for pid in hogs:
        os.kill(pid, signal.SIGKILL)
    print(f"slowed {shaker.count} times")
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
