"""Inside: entering a PID namespace, and its PID 1."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    T = TypeVar("T")

_NEW_MOUNTS, _NEW_USER, _NEW_PIDS = 0x00020000, 0x10000000, 0x20000000  # unshare(2)
_RECURSIVELY, _SLAVE = 0x4000, 0x80000  # mount(2)
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_PDEATHSIG = 1  # prctl(2)

_FULL = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
"""The machine is, or a limit is reached (ENOSPC: on namespaces): the job waits and does not fail (P11)."""

PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts; the last one is repeated."""

NO_NAMESPACE = 125
"""Exit code where there can be none, as where the files of a job cannot be made."""

EVERYTHING = 128
"""Added to a signal's number in what the leader tells init: it is for all that is inside, not for the shell alone."""

_DEFAULTED = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)  # Python handles or ignores them

_libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_namespace() -> None:
    """Have what is forked from now on in a new PID namespace.  May be called again after it has failed.

    Root needs no user namespace and keeps all that it may do.  Others get one in which they are who they are.

    Raises:
        OSError: the kernel allows none, or no further one now.
    """
    try:
        _call(_libc.unshare(_NEW_PIDS))
        return
    except PermissionError:
        pass
    uid, gid = os.geteuid(), os.getegid()
    _call(_libc.unshare(_NEW_USER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    _call(_libc.unshare(_NEW_PIDS))


def mount_proc() -> None:
    """Show the processes of this namespace in /proc, and to nobody else.

    Raises:
        OSError: not allowed, which is usual in containers that cover a part of /proc.
    """
    _call(_libc.unshare(_NEW_MOUNTS))
    _call(_libc.mount(b"none", b"/", None, _RECURSIVELY | _SLAVE, None))
    _call(_libc.mount(b"proc", b"/proc", b"proc", _NOSUID_NODEV_NOEXEC, None))


def patiently(attempt: Callable[[], T], lifeline: int) -> T:
    """What ``attempt`` returns, as soon as the machine is not too full for it.

    Args:
        lifeline: a pipe; when nobody has its other end any more, this process ends.
    """
    tries = 0
    while True:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in _FULL:
                raise
        poll = select.poll()
        poll.register(lifeline, 0)
        if poll.poll(PAUSES[min(tries, len(PAUSES) - 1)] * 1000):
            os._exit(NO_NAMESPACE)
        tries += 1


class Pipes:
    """``report``: shell and init to leader.  ``orders``: leader to init.  ``go``: leader to the shell, once."""

    def __init__(self) -> None:
        self.report, self.to_report = os.pipe()
        self.orders, self.to_orders = os.pipe()
        self.go, self.to_go = os.pipe()

    def keep(self, *, inner: bool) -> None:
        outer_ends, inner_ends = (
            (self.report, self.to_orders, self.to_go),
            (self.to_report, self.orders, self.go),
        )
        for descriptor in outer_ends if inner else inner_ends:
            os.close(descriptor)


class Waker:
    """Signals wake a poll: their numbers are in ``raised``, in order."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        for descriptor in (self.reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.raised: list[int] = []

    def note(self, signum: int, frame: object) -> None:
        self.raised.append(signum)

    def take(self) -> list[int]:
        """Race: a signal arrives after the list was taken: its byte makes the next poll return at once."""
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        raised, self.raised = self.raised, []
        return raised


class Init:
    """PID 1 of the namespace.  It blocks all signals but SIGCHLD: it ends when nothing else is left, or by SIGKILL."""

    def __init__(self, pipes: Pipes, command: list[str], environment: dict[str, str]) -> None:
        _call(_libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))
        pipes.keep(inner=True)
        self._pipes, self._command, self._environment = pipes, command, environment
        self._leader_there = True
        self._status: int | None = None
        try:
            mount_proc()
        except OSError:
            pass  # /proc shows what it shows outside
        self._shell = patiently(os.fork, pipes.orders)
        if self._shell == 0:
            self._become_shell()
        os.close(pipes.go)
        self._waker = Waker()
        signal.signal(signal.SIGCHLD, self._waker.note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def run(self) -> NoReturn:
        reported = False
        while True:
            others = self._reap()
            if self._status is not None and not reported:
                reported = True
                if others:  # the leader may go without taking everybody along
                    _call(_libc.prctl(_PDEATHSIG, 0, 0, 0, 0))
                os.write(self._pipes.to_report, f"{self._status} {others:d}\n".encode())
            if reported and not others:
                os._exit(0)
            poll = select.poll()
            poll.register(self._waker.reader, select.POLLIN)
            if self._leader_there:
                poll.register(self._pipes.orders, select.POLLIN)
            else:
                poll.register(0, 0)
            ready = dict(poll.poll())
            self._waker.take()
            if 0 in ready:
                os._exit(0)  # nobody is left who would end the others
            if self._pipes.orders in ready:
                self._obey(os.read(self._pipes.orders, 4096), reported)

    def _obey(self, orders: bytes, reported: bool) -> None:
        if not orders:
            if not reported:
                os._exit(0)
            self._leader_there = False
        for order in orders:
            try:
                if order > EVERYTHING:
                    os.kill(-1, order - EVERYTHING)  # all but ourselves
                elif self._status is None:
                    os.kill(self._shell, order)
            except ProcessLookupError:
                continue

    def _reap(self) -> bool:
        """Whether somebody is left: every orphan in here is a child of ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._shell:
                self._status = status

    def _become_shell(self) -> NoReturn:
        """Race: a signal to the group came when we were not there yet, and the leader alone has got it.

        It tells us which ones it has got by now.  They are blocked still, here as there: one that has reached both of
        us is pending already, and does not become two.
        Test: test_isolation.py::test_p7_a_signal_before_the_shell_runs_reaches_it.
        """
        os.write(self._pipes.to_report, b"S")
        told = b""
        while data := os.read(self._pipes.go, 256):
            told += data
        if not told.endswith(b"\0"):
            os._exit(NO_NAMESPACE)  # the leader is dead
        for signum in _DEFAULTED:
            signal.signal(signum, signal.SIG_DFL)
        for number in told[:-1]:
            os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            os.execve(self._command[0], self._command, self._environment)
        except OSError as error:
            complain(f"{self._command[0]}: {error.strerror}")
            os._exit(126)


def run_init(pipes: Pipes, command: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        Init(pipes, command, environment).run()
    except BrokenPipeError:
        os._exit(0)  # the leader is dead
    except OSError as error:
        complain(f"no process for the job: {error.strerror}")
        os._exit(NO_NAMESPACE)


def complain(what: str) -> None:
    os.write(2, f"torc-supervise: {what}\n".encode())
