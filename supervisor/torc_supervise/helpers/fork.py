"""Forking a helper with multiprocessing, and then keeping multiprocessing away from it.

multiprocessing supplies the fork and nothing else.  It would reap our children behind our back (``start()`` of a
second process waits for the first), call a reaped child alive for ever, and at exit send SIGTERM to, and join, whatever
it still believes in: a number that may belong to somebody else by then, or a helper that hangs on a dead file system.
So a helper is taken off its books at once; ours is the only reaper (posix.reap).
"""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.process
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable

from torc_supervise.posix import procfs
from torc_supervise.posix.wakeup import undo_in_child

LAST_WORDS_LIMIT = 2.0
"""Seconds that a crashing helper waits for somebody to take its traceback."""

NO_THREAD = "torc-supervise: its {} cannot start a thread: too many processes or threads of this user?\n"


def fork_helper(name: str, main: Callable[[], None], close: Iterable[int]) -> int:
    """Run ``main`` in a forked child and return its pid.

    Args:
        name: ``top`` shows it as ``torc-<name>``.
        close: descriptors of the parent that the child must not hold: its own pipe's other end and those of other
            helpers (or their ends of file would never be seen), the selector, the wakeup sockets.

    Raises:
        OSError: no process can be made.

    Race: a signal arrives in the child before it has undone the parent's handlers, and wakes the parent through the
    shared wakeup fd.  All signals are blocked across the fork, so it stays pending until they are undone.
    Test: test_fork.py::test_a_signal_to_a_helper_is_not_ours.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        process = multiprocessing.get_context("fork").Process(
            target=_child, args=(name, main, tuple(close)), name=name, daemon=False
        )
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    pid = process.pid
    assert pid is not None
    registered: set[multiprocessing.process.BaseProcess] = getattr(multiprocessing.process, "_children")  # noqa: B009
    registered.discard(process)
    return pid


def _child(name: str, main: Callable[[], None], close: tuple[int, ...]) -> None:
    undo_in_child()
    procfs.name_self(f"torc-{name}")
    for descriptor in close:
        try:
            os.close(descriptor)
        except OSError:
            continue  # never mind: it was not open
    try:
        main()
    except BaseException as error:  # noqa: BLE001
        _write_last_words(NO_THREAD.format(name) if _wants_thread(error) else _traceback())
        os._exit(70)
    # Not the interpreter's way out: it would flush stderr, and wait for ever where nobody reads that.
    os._exit(0)


def _wants_thread(error: BaseException) -> bool:
    """Whether the machine was too full for one of its threads (CPython 3.11): no bug, and no traceback (P11)."""
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


def _traceback() -> str:
    """Of the current exception, by the interpreter itself: to import the module of that name, just in case, would be a
    fiftieth of a start.  Only for a process that is about to end: it takes stderr away."""
    sys.stderr = text = io.StringIO()
    sys.__excepthook__(*sys.exc_info())
    return text.getvalue()


def _write_last_words(text: str) -> None:
    """A pipe or a terminal that says it is writable takes 4096 bytes at once."""
    poll = select.poll()
    try:
        poll.register(2, select.POLLOUT)
        if any(mask & select.POLLOUT for _, mask in poll.poll(LAST_WORDS_LIMIT * 1000)):
            os.write(2, text.encode(errors="replace")[-4096:])
    except OSError:
        return  # no stderr
