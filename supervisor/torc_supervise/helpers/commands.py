"""Commands: what ``run_commands`` actions run, in the keeper, one after the other, each in a session of its own.

They end under the rules of jobs: SIGTERM to the group, SIGKILL at a deadline, and a command is over when its group is
empty.  A command that ends by itself may leave processes behind (a monitor that it started): those are the run's, which
ends them when it ends (``posix.escaped``).

Where the keeper dies its command runs on; the next keeper finds it by what it carries, and ends it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import threading
import time
from collections.abc import Mapping
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any

from torc_supervise.exitstatus import Exit, Exited
from torc_supervise.machine.step import UNKILLABLE_AFTER
from torc_supervise.posix import clock, marks, procfs
from torc_supervise.posix.groups import signal_exactly, signal_group
from torc_supervise.posix.lineage import Key
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.reap import collect_own
from torc_supervise.posix.shell import find_bash
from torc_supervise.posix.spawn import MACHINE_FULL, SpawnFailedError, SpawnRefusedError, spawn

Body = dict[str, Any]

LOOK_AGAIN_AFTER = 0.1  # seconds, where not every process can be watched
LONGEST_PAUSE = 30.0  # seconds between two tries on a machine that is full
ACTION_KEY = "TORC_ACTION_KEY"
"""In the environment of a command: the key of its action, a dot, and the command's number in it."""

_OF_A_JOB = ("TORC_JOB_ID", "TORC_JOB_NAME", "TORC_ATTEMPT_ID")


class _Deadlines:
    """When the commands of each key have to be gone; a key whose commands have not begun may have a deadline already.

    Race: both chores have a thread of their own, so the one that ends commands may be there before the one that runs
    them.  Its deadline stays, and the commands find it when they begin.
    Test: test_commands.py::test_commands_that_were_ended_before_they_began_do_not_begin.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._kill_at: dict[str, float] = {}
        self._wake: dict[str, int] = {}  # eventfd of the thread that runs them

    def begin(self, key: str, descriptor: int) -> None:
        with self._guard:
            self._wake[key] = descriptor

    def over(self, key: str) -> None:
        with self._guard:
            del self._wake[key]
            self._kill_at.pop(key, None)

    def set(self, key: str, kill_at: float) -> None:
        """It only ever comes nearer (P6)."""
        with self._guard:
            self._kill_at[key] = min(kill_at, self._kill_at.get(key, kill_at))
            if key in self._wake:
                os.eventfd_write(self._wake[key], 1)

    def get(self, key: str) -> float | None:
        with self._guard:
            return self._kill_at.get(key)


_deadlines = _Deadlines()


def run_commands(body: Body) -> Body:
    """Chore: run ``commands`` with ``bash -c`` in ``directory``, until one fails.

    Args:
        body: ``key`` (for :func:`end_commands`), ``commands``, ``directory``, ``log`` (path that is appended to),
            ``environment`` (added to ours), ``open_files`` (soft limit to return to, or None), ``title``.

    Returns:
        ``ok``, ``done`` (how many commands have succeeded), what went wrong as ``message``, and ``ended``: it went
        wrong because :func:`end_commands` was asked for.
    """
    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    key = body["key"]
    _deadlines.begin(key, wake)
    try:
        return _Commands(body, wake).run()
    finally:
        _deadlines.over(key)
        os.close(wake)


def end_commands(body: Body) -> Body:
    """Chore: SIGTERM to what :func:`run_commands` runs under this ``key``, SIGKILL ``grace`` seconds later."""
    _deadlines.set(body["key"], time.monotonic() + body["grace"])
    return {}


def end_left_commands(body: Body) -> Body:
    """Chore: end what another keeper, which is dead, ran under this ``key``, as :func:`end_commands` would have.

    What an earlier command of the action has left behind stays the run's.

    Args:
        body: ``key``, ``environment`` (entries that the commands have, those of the run), ``grace`` (seconds).

    Returns:
        a ``message`` where SIGKILL did not help.
    """
    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    key = body["key"]
    _deadlines.begin(key, wake)
    _deadlines.set(key, time.monotonic() + body["grace"])
    try:
        return _Left(body, wake).end()
    finally:
        _deadlines.over(key)
        os.close(wake)


class _Waits:
    """Waits that a new deadline ends."""

    def __init__(self, wake: int) -> None:
        self._wake = wake

    def _until_one_ends(self, pids: list[int] | None, seconds: float) -> None:
        """One of these ends, the deadline changes, or the time is up; None: nobody can tell who is there."""
        descriptors: list[int] = []
        try:
            for pid in pids or ():
                descriptors.append(os.pidfd_open(pid))
        except OSError:  # it is gone, or there are no descriptors left
            seconds = min(seconds, LOOK_AGAIN_AFTER)
        self._until(descriptors, seconds if pids is not None else min(seconds, LOOK_AGAIN_AFTER))
        for descriptor in descriptors:
            os.close(descriptor)

    def _until(self, descriptors: list[int], seconds: float | None) -> list[int]:
        """Wait for one of them, for a new deadline, or until the time is up; returns those that are readable."""
        poll = select.poll()
        for descriptor in (*descriptors, self._wake):
            poll.register(descriptor, select.POLLIN)
        limit = None if seconds is None else min(clock.LONGEST_WAIT, max(0.0, seconds)) * 1000
        ready = [descriptor for descriptor, _ in poll.poll(limit)]
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return ready


class _Commands(_Waits):
    def __init__(self, body: Body, wake: int) -> None:
        super().__init__(wake)
        self._body = body
        self._key: str = body["key"]
        self._bash = find_bash() or "/bin/bash"
        base = {name: value for name, value in os.environ.items() if name not in _OF_A_JOB}
        self._environment: Mapping[str, str] = {**base, **body["environment"]}

    def run(self) -> Body:
        commands: list[str] = self._body["commands"]
        for number, command in enumerate(commands):
            failure = self._run_one(number, command)
            if failure is not None:
                what = f"command {number + 1} of {len(commands)}: {failure}, see {self._body['log']}"
                ended = _deadlines.get(self._key) is not None
                return {"ok": False, "done": number, "message": what, "ended": ended}
        return {"ok": True, "done": len(commands)}

    def _run_one(self, number: int, command: str) -> str | None:
        """None, or why the command, and with it the action, failed."""
        self._note(f"{self._body['title']}, command {number + 1}: {command}")
        try:
            pid = self._start(number, command)
        except SpawnFailedError as error:
            return f"cannot be started: {error}"
        if pid is None:
            return "not begun, the run was ending"
        ended_by_us = self._wait(pid)
        if ended_by_us is None:
            return "still there after SIGKILL; no longer waited for"
        exit_ = collect_own(pid)
        if ended_by_us:
            return f"ended with the run ({_words(exit_)})"
        return None if exit_ == Exited(0) else _words(exit_)

    def _start(self, number: int, command: str) -> int | None:
        """The pid; None where the run ended before there was one.  A machine that is full is tried again (P11)."""
        pause = LOOK_AGAIN_AFTER
        environment = {**self._environment, ACTION_KEY: f"{self._key}.{number}"}
        while _deadlines.get(self._key) is None:
            try:
                return spawn((self._bash, "-c", self._script(command)), environment)
            except SpawnRefusedError:
                self._until([], pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _script(self, command: str) -> str:
        """The files are opened after the exec, by the shell (P8); the command has lines of its own, as a job's.

        Race: the keeper is killed in the spawn, and nobody finds a command that is not there yet.  So the shell looks
        whether its parent is still there, and begins nothing otherwise; from that look on it can be found.
        Test: test_commands.py::test_a_command_whose_keeper_is_gone_does_not_begin.
        """
        limit, log = self._body["open_files"], shlex.quote(self._body["log"])
        prologue = f"cd -- {shlex.quote(self._body['directory'])} && exec </dev/null >>{log} 2>&1 || exit 125"
        limited = f"ulimit -Sn {limit} && " if limit is not None else ""
        return f"[ $PPID = {os.getpid()} ] && {limited}{prologue}\n{command}"

    def _wait(self, pid: int) -> bool | None:
        """Until it is over; whether it was asked to end, None where SIGKILL did not help (P12)."""
        leader = os.pidfd_open(pid)
        asked = killed = False
        try:
            while True:
                kill_at, now = _deadlines.get(self._key), time.monotonic()
                if kill_at is None:
                    if leader in self._until([leader], None):
                        return False
                    continue
                if not asked:
                    if leader in self._until([leader], 0.0):
                        return False  # it was over before
                    asked = True
                    signal_group(pid, SIGTERM)
                    signal_group(pid, SIGCONT)
                if now >= kill_at and not killed:
                    killed = True
                    signal_group(pid, SIGKILL)
                left = _members(pid)
                if left == []:
                    return True
                if now >= kill_at + UNKILLABLE_AFTER:
                    return None
                self._until_one_ends(left, kill_at + (UNKILLABLE_AFTER if killed else 0.0) - now)
        finally:
            os.close(leader)

    def _note(self, text: str) -> None:
        """A line in the log, before what the command writes.  A log that cannot be written fails the command itself."""
        with contextlib.suppress(OSError), open(self._body["log"], "a", encoding="utf-8") as log:
            log.write(f"== {clock.wall()} {text}\n")


class _Left(_Waits):
    """Processes of the command that a dead keeper ran last, found in /proc; they are the parent's children by now."""

    def __init__(self, body: Body, wake: int) -> None:
        super().__init__(wake)
        self._key: str = body["key"]
        named = [(name, body["environment"].get(name)) for name in (marks.NONCE, "TORC_OUTPUT_DIR")]
        self._run = {os.fsencode(f"{name}={value}") for name, value in named if value is not None}
        self._numbers: dict[Key, int | None] = {}  # of the command that a process belongs to, if known
        self._last: int | None = None  # of the one that is to be ended
        self._sent: set[tuple[Key, int]] = set()

    def end(self) -> Body:
        while True:
            kill_at = _deadlines.get(self._key)
            assert kill_at is not None, "set before"
            (left, sure), now = self._look(), time.monotonic()
            if not left and sure:
                return {}
            if now >= kill_at + UNKILLABLE_AFTER:
                return {"ok": False, "message": "some of it may still be there, and is no longer waited for"}
            for about in left:
                self._signal(about, (SIGKILL,) if now >= kill_at else (SIGTERM, SIGCONT))
            # What one of them forks meanwhile is announced by nobody.
            self._until_one_ends([about.pid for about in left], LOOK_AGAIN_AFTER)

    def _signal(self, about: ProcessStat, signums: tuple[Signals, ...]) -> None:
        """Once each."""
        for signum in signums:
            what = ((about.pid, about.start_ticks), signum.value)
            if what not in self._sent and signal_exactly(about, signum):
                self._sent.add(what)

    def _look(self) -> tuple[list[ProcessStat], bool]:
        """What is left, and whether that is all; it is not sure where one of the parent's children cannot be read."""
        found: dict[int, list[ProcessStat]] = {}
        unread: list[ProcessStat] = []
        try:
            for about in filter(_may_be_one, procfs.everything()):
                key = (about.pid, about.start_ticks)
                if key not in self._numbers:
                    block = marks.environment_block(about)
                    if block is None:
                        unread.append(about)
                        continue
                    self._numbers[key] = self._number(block)
                number = self._numbers[key]
                if number is not None:
                    found.setdefault(number, []).append(about)
        except OSError as error:
            if error.errno in MACHINE_FULL:
                return [], False
            raise
        if self._last is None and found:
            self._last = max(found)
        left = found.get(self._last, []) if self._last is not None else []
        sessions = {about.sid for about in left}
        left += [about for about in unread if about.sid in sessions]
        return left, not any(about.ppid == os.getppid() for about in unread)

    def _number(self, block: bytes) -> int | None:
        """None where the process is not of this action."""
        entries = set(block.split(b"\0"))
        own = os.fsencode(f"{ACTION_KEY}={self._key}.")
        numbers = [entry[len(own) :] for entry in entries if entry.startswith(own)]
        return int(numbers[0]) if self._run <= entries and numbers and numbers[0].isdigit() else None


def _may_be_one(about: ProcessStat) -> bool:
    return about.alive and about.pid != os.getpid() and about.sid > 1


def _members(pgid: int) -> list[int] | None:
    """Living processes of a group whose leader was not collected; None where nobody can look."""
    try:
        return [about.pid for about in procfs.everything() if about.pgid == pgid and about.alive]
    except OSError as error:
        if error.errno in MACHINE_FULL:
            return None
        raise


def _words(exit_: Exit) -> str:
    if isinstance(exit_, Exited):
        return f"exit code {exit_.code}"
    return f"died of signal {exit_.signum}"
