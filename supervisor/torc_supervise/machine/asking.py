"""Asking: when a run begins to end its jobs are asked a few at a time, and every signal comes before any bookkeeping.

Deciding about 500 jobs takes 10 ms, and writing down what was decided as long again.  The last of them waits for
neither: the first few have their signal while the next ones are decided on, and records follow when all have theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from signal import SIGCONT

from torc_supervise.machine import actions as a
from torc_supervise.machine.orders import Order, Orders
from torc_supervise.workflow.model import JobId

AT_A_TIME = 16


class Asking:
    """Stands between the orders of a Supervision and whoever carries them out.

    Whoever takes orders until there are none leaves nothing undone.  Whoever reports something else before that has
    the rest decided first, by :meth:`finish`.
    """

    def __init__(self, take: Callable[[], Orders], ask: Callable[[JobId], None]) -> None:
        """``take``: the orders so far.  ``ask``: decides about one job, if it is still there."""
        self._take = take
        self._ask = ask
        self._left: deque[JobId] = deque()
        self._then: Callable[[], None] | None = None
        self._later: Orders = []

    @property
    def busy(self) -> bool:
        return self._then is not None

    def begin(self, jobs: Iterable[JobId], then: Callable[[], None]) -> None:
        """Ask these jobs; ``then`` is called when all of them were."""
        self.finish()
        self._left.extend(jobs)
        self._then = then

    def finish(self) -> None:
        """Ask those that are left now."""
        if self._then is None:
            return
        then, self._then = self._then, None
        while self._left:
            self._ask(self._left.popleft())
        then()

    def take_orders(self) -> Orders:
        """What is to be done next, in this order; empty when there is nothing."""
        orders = self._take() if self._then is not None else []
        while self._then is not None and not orders:
            for _ in range(min(AT_A_TIME, len(self._left))):
                self._ask(self._left.popleft())
            for order in self._take():
                (orders if _is_urgent(order) else self._later).append(order)
            if not self._left:
                self.finish()
        if self._then is None:
            orders += self._later + self._take()
            self._later = []
        return orders


def _is_urgent(order: object) -> bool:
    """SIGCONT can wait: it comes after the signal that it lets a stopped job act on (P14), not before others'."""
    match order:
        case Order(action=a.SignalGroup(signum=signum)):
            return signum != SIGCONT
        case Order(action=a.SignalLeader()):
            return True
        case _:
            return False
