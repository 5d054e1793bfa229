"""Forked helpers: signals, and multiprocessing kept away from them."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import waiting
from torc_supervise.helpers import fork
from torc_supervise.helpers.fork import fork_helper
from torc_supervise.posix.wakeup import TERMINATION_SIGNALS, Wakeup

pytestmark = pytest.mark.process


class Helper:
    """A helper that says ``ready`` and lives until its socket is closed."""

    def __init__(self, main: Callable[[socket.socket], None] | None = None) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(waiting.LIMIT)

        def serve() -> None:
            theirs.sendall(b"ready")
            (main or (lambda end: end.recv(1)))(theirs)

        self.pid = fork_helper("helper", serve, [self.socket.fileno()])
        theirs.close()
        assert self.socket.recv(5) == b"ready"

    def end(self) -> int:
        self.socket.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def helper() -> Iterator[Helper]:
    made = Helper()
    yield made
    made.socket.close()
    try:
        os.kill(made.pid, signal.SIGKILL)
        os.waitpid(made.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_helper_ends_when_its_socket_is_closed(helper: Helper) -> None:
    assert helper.end() == 0


def test_a_helper_has_a_name_that_top_shows(helper: Helper) -> None:
    assert Path(f"/proc/{helper.pid}/comm").read_text() == "torc-helper\n"


KEYS_AND_LIMITS = ("SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGALRM", "SIGXCPU")


def test_helpers_ignore_what_is_sent_to_every_process(helper: Helper) -> None:
    to_all = {*TERMINATION_SIGNALS, *(signal.Signals[name] for name in KEYS_AND_LIMITS)}
    assert to_all <= waiting.signal_set(helper.pid, "SigIgn")
    assert waiting.signal_set(helper.pid, "SigBlk") == set()
    for signum in to_all:
        os.kill(helper.pid, signum)
    assert helper.end() == 0


def test_a_signal_to_a_helper_is_not_ours() -> None:
    """Forked under our handlers and wakeup fd, as a keeper is that replaces a dead one."""
    with Wakeup() as wakeup:
        helper = Helper()
        for signum in (*TERMINATION_SIGNALS, signal.SIGCHLD):
            os.kill(helper.pid, signum)
        helper.socket.close()
        waiting.wait_for_end(helper.pid)
        os.waitpid(helper.pid, 0)
        assert set(wakeup.take()) <= {signal.SIGCHLD}, "nothing but its own end"


def test_control_a_plain_fork_wakes_the_parent_with_its_own_signals() -> None:
    with Wakeup() as wakeup:
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGUSR1)
            os._exit(0)
        os.waitpid(pid, 0)
        assert select.select([wakeup], [], [], 0)[0]
        assert signal.SIGUSR1 not in wakeup.take(), "the flag is the child's own"


def test_signals_are_not_blocked_after_the_fork(helper: Helper) -> None:
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_helper_does_not_hold_what_it_was_told_to_close() -> None:
    """Else the end of file of one helper's pipe would wait for the other helper."""
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    pid = fork_helper("holder", lambda: theirs.recv(1) and None, [ours.fileno(), write])
    theirs.close()
    os.close(write)
    assert select.select([read], [], [], waiting.LIMIT)[0]
    assert os.read(read, 1) == b""
    ours.close()
    os.close(read)
    os.waitpid(pid, 0)


def test_multiprocessing_has_forgotten_the_helper(helper: Helper) -> None:
    assert multiprocessing.active_children() == []


def test_leaving_neither_signals_nor_joins_the_helper() -> None:
    """multiprocessing's atexit would SIGTERM daemons and wait for all others; ours goes its own way."""
    keep, give = os.pipe()
    program = (
        "import os\n"
        "from torc_supervise.helpers.fork import fork_helper\n"
        "ready, tell = os.pipe()\n"
        "def main():\n"
        f"    os.write(tell, b'x'); os.read({keep}, 1)\n"
        "pid = fork_helper('helper', main, [])\n"
        "os.read(ready, 1)\n"
        "print(pid, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, pass_fds=[keep])
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    try:
        waiting.wait_for_end(process.pid)  # it does not join
        assert waiting.state_of(pid) not in ("Z", None)
    finally:
        os.write(give, b"x")
        waiting.wait_for_end(pid)
        process.wait()
        process.stdout.close()
        os.close(keep)
        os.close(give)


def test_a_crash_says_why_and_leaves_with_70() -> None:
    program = (
        "import os\n"
        "from torc_supervise.helpers.fork import fork_helper\n"
        "def main(): raise RuntimeError('what happened')\n"
        "pid = fork_helper('helper', main, [])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "70\n"
    assert "RuntimeError: what happened" in done.stderr


def test_p11_a_helper_for_whose_threads_there_is_no_room_says_so_without_a_traceback() -> None:
    program = (
        "import os, threading\n"
        "from torc_supervise.helpers.fork import fork_helper\n"
        "def main():\n"
        "    threading.stack_size(1 << 46)\n"
        "    threading.Thread(target=print).start()\n"
        "pid = fork_helper('keeper', main, [])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("70\n", fork.NO_THREAD.format("keeper"))


def test_a_crash_with_an_stderr_that_nobody_reads_ends_as_well() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    program = (
        "import os\n"
        "from torc_supervise.helpers.fork import fork_helper\n"
        "def main(): raise RuntimeError('what happened')\n"
        "pid = fork_helper('helper', main, [])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=write,
        text=True,
        timeout=waiting.LIMIT,
    )
    assert done.stdout == "70\n"
    os.close(read)
    os.close(write)
