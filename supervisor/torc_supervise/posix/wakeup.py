"""Wakeup: signals to the supervisor become readable bytes for its selector (P1).

A Python-level handler does one assignment: it raises the flag of its signal.  The wakeup fd makes the selector
return.  The bytes in it are hints only, and may be lost when it is full (a burst of SIGCHLD fills a socket buffer
after some hundred bytes); the flags cannot be lost, because CPython runs the handler from its own per-signal
flags whether or not the byte could be written (docs/decisions/0002).
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from types import FrameType, TracebackType

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

NUDGE = signal.SIGURG
"""Says "look whether somebody has left a request" (store.requests).  Of the signals that Slurm can send it is the one
that does nothing to a program which does not know it."""

# What a terminal, a shell's limits or somebody's alarm sends to every process of ours.  A helper that ended or stopped
# with them could not do its duty: after Ctrl-\ the parent is dead, and its jobs are the keeper's.
_NOT_FOR_HELPERS = (
    *TERMINATION_SIGNALS,
    NUDGE,
    *(signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGALRM, signal.SIGXCPU),
)


class Wakeup:
    """Owns the signal handlers and the wakeup fd of the process between ``__enter__`` and ``__exit__``.

    Args:
        continued: SIGCONT is to be told of, too: Slurm sends it to all processes of a job before its SIGTERM.
    """

    def __init__(self, *, continued: bool = False) -> None:
        self._signals = (
            signal.SIGCHLD,
            NUDGE,
            *TERMINATION_SIGNALS,
            *((signal.SIGCONT,) if continued else ()),
        )
        self._raised: dict[int, bool] = {}
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous: dict[int, signal._HANDLER] = {}
        self._previous_fd = -1
        self._previous_mask: set[int] = set()
        self._ignore = False

    def __enter__(self) -> Wakeup:
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for signum in self._signals:
            if signum == signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
                continue  # started under nohup: the user asked for exactly this
            self._raised[signum] = False
            self._previous[signum] = signal.signal(signum, self._raise_flag)
        # Whoever started us may have blocked some of them, and a mask is inherited over exec.
        self._previous_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._raised)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Race: CPython complains, with a traceback, of a signal that comes while its handler is being taken away.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._raised)
        for signum, handler in self._previous.items():
            if self._ignore and signum != signal.SIGCHLD:
                handler = signal.SIG_IGN
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_fd)
        self.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._raised.keys() - self._previous_mask)

    def ignore_from_now_on(self) -> None:
        """Leave the termination signals ignored: the run is over, and its exit code is all that is still to be said.

        Slurm signals more than once; the second one must not turn 75 into 143.
        """
        self._ignore = True

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _raise_flag(self, signum: int, frame: FrameType | None) -> None:
        self._raised[signum] = True

    @contextlib.contextmanager
    def children_later(self) -> Iterator[None]:
        """SIGCHLD waits: jobs that end at once are not to interrupt, one by one, what is sent to the others."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def fileno(self) -> int:
        """Readable when a signal may have arrived."""
        return self._reader.fileno()

    def fds(self) -> tuple[int, int]:
        return self._reader.fileno(), self._writer.fileno()

    def take(self) -> list[int]:
        """Drain the bytes and lower the flags; returns the raised signals in order of their numbers.

        Race: a signal arrives between draining and lowering.  Its byte is then read next time, with its flag down:
        an empty turn.  The other order would lose the wakeup.  A flag raised between the look and the lowering of
        the same flag is the same signal once more, and standard signals coalesce anyway.
        Test: test_wakeup.py::test_p1_no_termination_signal_is_lost_when_the_wakeup_socket_is_full.
        """
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        raised = []
        for signum in self._raised:
            if self._raised[signum]:
                self._raised[signum] = False
                raised.append(signum)
        return sorted(raised)


def undo_in_child() -> None:
    """First thing in a forked helper: our handlers and wakeup fd are the parent's business.

    Helpers ignore what a terminal's keys and Slurm send to every process: only the parent decides what it means.  They
    leave when their pipe is closed.
    """
    signal.set_wakeup_fd(-1)
    for signum in _NOT_FOR_HELPERS:
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
