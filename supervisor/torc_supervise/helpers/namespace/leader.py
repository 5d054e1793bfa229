"""The leader: what the supervisor sees of the job."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

from torc_supervise.helpers.namespace.inside import (
    EVERYTHING,
    NO_NAMESPACE,
    Pipes,
    Waker,
    complain,
    enter_namespace,
    patiently,
    run_init,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_FREE = {signal.SIGKILL, signal.SIGSTOP}
NEVER = float("inf")


class Leader:
    """What the supervisor sees of the job.

    ``passes_on``: signals are for the shell alone, and come to us alone.  ``signum``, ``grace``: what the job is told,
    and the seconds that it has then, where nobody else is left to tell it.
    """

    def __init__(self, init: int, pipes: Pipes, *, passes_on: bool, signum: int, grace: float) -> None:
        pipes.keep(inner=False)
        self._init, self._pipes = init, pipes
        self._passes_on, self._signum, self._grace = passes_on, signum, grace
        self._asked_at: float | None = None  # monotonic seconds
        self._orphaned = False  # supervisor and keepers are gone
        self._kill_at = NEVER  # monotonic seconds
        self._said = b""
        self._waker = Waker()

    def run(self) -> int:
        """Until the job has ended; returns its wait status."""
        self._start_shell()
        while True:
            poll = select.poll()
            poll.register(self._waker.reader, select.POLLIN)
            poll.register(self._pipes.report, select.POLLIN)
            if not self._orphaned:
                poll.register(0, 0)
            left = max(0.0, self._kill_at - time.monotonic())
            ready = dict(poll.poll(None if left == NEVER else left * 1000 + 1))
            self._pass_on(self._waker.take())
            if self._pipes.report in ready:
                data = os.read(self._pipes.report, 256)
                self._said += data
                if not data:  # nothing is left inside
                    os.waitpid(self._init, 0)
                    return self._status()
                if self._said.endswith(b" 1\n") and not self._orphaned:
                    return self._status()  # the supervisor sees to those who are left
            if 0 in ready:
                self._on_orphaned()
            if time.monotonic() >= self._kill_at:
                self._kill_at = NEVER
                self._kill()

    def _kill(self) -> None:
        """End everything.  Init is a child of ours that was not waited for: the number is its own."""
        os.kill(self._init, signal.SIGKILL)

    def _start_shell(self) -> None:
        poll = select.poll()
        poll.register(self._pipes.report, select.POLLIN)
        poll.register(0, 0)
        ready = dict(poll.poll())
        if 0 in ready or os.read(self._pipes.report, 1) != b"S":
            self._kill()
            os.waitpid(self._init, 0)
            os._exit(NO_NAMESPACE)
        early = signal.sigpending() - {signal.SIGCHLD}
        for signum in early:
            signal.sigtimedwait({signum}, 0)
        if self._signum in early:
            self._asked_at = time.monotonic()
        for signum in signal.valid_signals() - _FREE - _FAULTS:
            signal.signal(signum, self._waker.note)
        os.write(self._pipes.to_go, bytes(sorted(early)) + b"\0")
        os.close(self._pipes.to_go)
        signal.pthread_sigmask(signal.SIG_SETMASK, _FAULTS)

    def _pass_on(self, raised: list[int]) -> None:
        for signum in raised:
            if signum == signal.SIGCHLD:
                continue
            if signum == self._signum and self._asked_at is None:
                self._asked_at = time.monotonic()
            if self._passes_on:
                self._order(signum)

    def _on_orphaned(self) -> None:
        """A grace that had begun goes on (P6)."""
        self._orphaned = True
        now = time.monotonic()
        self._kill_at = (now if self._asked_at is None else self._asked_at) + self._grace
        if self._asked_at is None and self._grace:
            self._order(self._signum if self._passes_on else EVERYTHING + self._signum)
            self._order(EVERYTHING + signal.SIGCONT)

    def _order(self, number: int) -> None:
        try:
            os.write(self._pipes.to_orders, bytes([number]))
        except BrokenPipeError:
            pass  # init is about to end

    def _status(self) -> int:
        """Where init was killed from outside, so was the shell."""
        return int(self._said.split()[0]) if self._said else int(signal.SIGKILL)


def end_as(status: int) -> NoReturn:
    """End as the shell has ended, without a core file of our own."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    signum = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if signum not in _FREE:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os._exit(128 + signum)


def _fork_init() -> int:
    """With all signals blocked from here on, in it and in us; not blocked where it fails."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        return os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        raise


def probe() -> int:
    """The error's number where a job can have no namespace, else 0."""
    try:
        enter_namespace()
        init = os.fork()
        if init == 0:
            os._exit(0)
        os.waitpid(init, 0)
    except OSError as error:
        return error.errno or NO_NAMESPACE
    return 0


def main() -> NoReturn:
    """Run the leader.  Its arguments: see ``posix.namespaces.leader_command``; or ``probe`` alone.

    Race: the supervisor is killed while it waits in posix_spawn for our exec, so that nobody hears of this job (P10).
    Our parent is somebody else then, and the job does not begin.
    Test: test_isolation.py::test_p10_a_leader_whose_supervisor_is_gone_starts_nothing.
    """
    arguments = sys.argv[1:]
    if arguments == ["probe"]:
        os.write(0, b"%d" % probe())
        os._exit(0)
    parent, scope, signum, grace, cgroup, lc_ctype, *command = arguments
    if os.getppid() != int(parent):
        os._exit(NO_NAMESPACE)
    if cgroup:
        try:
            descriptor = os.open(cgroup, os.O_WRONLY)
            os.write(descriptor, b"%d" % os.getpid())
            os.close(descriptor)
        except OSError:
            pass  # it stays where it is
    environment = dict(os.environ)
    environment.pop("LC_CTYPE", None)  # Python sets it where the locale is C
    if lc_ctype.startswith("="):
        environment["LC_CTYPE"] = lc_ctype[1:]
    try:
        patiently(enter_namespace, 0)
        pipes = Pipes()
        init = patiently(_fork_init, 0)
    except OSError as error:
        complain(f"no PID namespace for this job: {error.strerror}")
        os._exit(NO_NAMESPACE)
    if not init:
        run_init(pipes, command, environment)
    leader = Leader(init, pipes, passes_on=scope == "leader", signum=int(signum), grace=float(grace))
    end_as(leader.run())
