"""Signals to the supervisor become readable bytes and flags (P1)."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support import waiting
from torc_supervise.posix.wakeup import TERMINATION_SIGNALS, Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    with Wakeup() as made:
        yield made


def readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_nothing_is_raised_at_first(wakeup: Wakeup) -> None:
    assert not readable(wakeup)
    assert wakeup.take() == []


@pytest.mark.parametrize("signum", [signal.SIGCHLD, *TERMINATION_SIGNALS])
def test_p1_a_signal_wakes_and_is_taken_once(wakeup: Wakeup, signum: signal.Signals) -> None:
    signal.raise_signal(signum)
    assert readable(wakeup)
    assert wakeup.take() == [signum]
    assert not readable(wakeup)
    assert wakeup.take() == []


def test_p1_no_termination_signal_is_lost_when_the_wakeup_socket_is_full(wakeup: Wakeup) -> None:
    for _ in range(5000):
        signal.raise_signal(signal.SIGCHLD)
        signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGTERM)
    assert readable(wakeup)
    assert wakeup.take() == [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD]
    assert wakeup.take() == []
    signal.raise_signal(signal.SIGTERM)
    assert readable(wakeup), "it wakes again afterwards"
    assert wakeup.take() == [signal.SIGTERM]


def test_p1_control_the_byte_of_the_last_signal_is_lost_in_a_full_socket() -> None:
    """Why the bytes are hints only: a reader that trusted them would never hear of this SIGTERM."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    previous = {signum: signal.signal(signum, lambda *_: None) for signum in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        for _ in range(5000):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        read = b""
        try:
            while True:
                read += reader.recv(65536)
        except BlockingIOError:
            pass
        assert set(read) == {signal.SIGUSR1}
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(previous_fd)
        reader.close()
        writer.close()


def test_p1_a_signal_during_a_wait_ends_the_wait(wakeup: Wakeup) -> None:
    pid = os.getpid()
    child = subprocess.Popen([sys.executable, "-c", f"import os; os.kill({pid}, 12)"])
    try:
        raised: set[int] = set()
        while signal.SIGUSR2 not in raised:
            assert select.select([wakeup], [], [], waiting.LIMIT)[0]
            raised |= set(wakeup.take())
    finally:
        child.wait()


@pytest.mark.parametrize("signum", [signal.SIGCHLD, *TERMINATION_SIGNALS])
def test_p1_a_signal_that_was_blocked_by_whoever_started_us_is_taken(signum: signal.Signals) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
    try:
        signal.raise_signal(signum)
        with Wakeup() as wakeup:
            assert readable(wakeup)
            assert wakeup.take() == [signum]
        assert signum in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "the mask is as it was"
    finally:
        handler = signal.signal(signum, signal.SIG_IGN)  # what is still pending is forgotten
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signum, handler)


def test_handlers_and_wakeup_fd_are_restored() -> None:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGCHLD, *TERMINATION_SIGNALS)}
    with Wakeup():
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {signum: signal.getsignal(signum) for signum in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_no_signal_comes_while_its_handler_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython would print a traceback: "ignored due to race condition"."""
    blocked: dict[int, bool] = {}
    real = signal.signal

    def look(signum: int, handler: signal._HANDLER) -> signal._HANDLER:
        blocked[signum] = signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return real(signum, handler)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with monkeypatch.context() as patched, Wakeup():
        patched.setattr(signal, "signal", look)
    assert blocked.keys() >= {signal.SIGCHLD, *TERMINATION_SIGNALS}
    assert all(blocked.values())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_nohup_keeps_sighup_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Wakeup() as wakeup:
            signal.raise_signal(signal.SIGHUP)
            assert wakeup.take() == []
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_descriptors_are_not_inherited(wakeup: Wakeup) -> None:
    assert [os.get_inheritable(descriptor) for descriptor in wakeup.fds()] == [False, False]
