"""Escaped: ending what left the group of its job (setsid, a daemon) and came to us as an orphan (P5)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from signal import SIGCONT, SIGINT, SIGKILL

from torc_supervise.posix.kernel import Kernel
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER, NotNowError

LIMIT = 5.0
"""Seconds that are waited for processes that were killed: one may be unkillable (P12)."""


def end_escaped(kernel: Kernel, signum: int, grace: float, wait: Callable[[float], Collection[int]]) -> int:
    """Send ``signum`` once to each, SIGKILL to those that are left after the grace; returns how many there were.

    The death of one may bring us its children, which have what is left of the grace.

    Args:
        wait: until something happened, at most until this monotonic time; returns the signals that were received.  An
            interrupt ends the grace.
    """
    now = kernel.monotonic()
    kill_at = now + grace
    sent: set[tuple[int, int]] = set()
    while now < kill_at + LIMIT:
        until = kill_at if now < kill_at else kill_at + LIMIT
        try:
            left = kernel.escaped()
        except NotNowError:
            until = min(until, now + LOOK_AGAIN_AFTER)
        else:
            if not left:
                break
            now_due = signum if now < kill_at else SIGKILL
            for pid in left:
                if (pid, now_due) not in sent:
                    sent.add((pid, now_due))
                    kernel.signal_process(pid, now_due)
                    kernel.signal_process(pid, SIGCONT)
        interrupted = SIGINT in wait(until)
        now = kernel.monotonic()
        if interrupted:
            kill_at = min(kill_at, now)
    return len({pid for pid, _ in sent})
