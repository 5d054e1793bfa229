"""The end of a run that has no keeper any more: what is left for the parent to do itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torc_supervise.helpers.last_will import LastWill
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.loop import Loop
from torc_supervise.machine import actions as a
from torc_supervise.machine import records as r
from torc_supervise.machine.orders import Order, Write
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.supervision import Supervision
from torc_supervise.posix import clock
from torc_supervise.posix.kernel import Kernel

SECONDS = 10.0
"""How long writing without a keeper may take at least, however late it is."""


def write_without_keeper(loop: Loop, keeper: KeeperLink, state: WorkflowState, limit: float) -> None:
    """Write the last records ourselves where no keeper can be had; never beside one that may still write.

    Args:
        limit: monotonic seconds.
    """
    dismissed = loop.staff.dismiss_keeper()
    if dismissed:
        loop.wait_for_keeper(max(limit, clock.monotonic() + SECONDS))
    if keeper.pid or not dismissed:
        keeper.say_ourselves(f"{keeper.unconfirmed} records are not confirmed; the keeper goes on alone")
        return
    problem = keeper.write_without_keeper(state, max(limit, clock.monotonic() + SECONDS))
    if problem is None:
        keeper.say_ourselves("no keeper could be had; everything is written all the same")
    else:
        _say_lost(keeper, problem)


def _say_lost(keeper: KeeperLink, problem: str) -> None:
    keeper.say_ourselves(
        f"ERROR: {keeper.unconfirmed} records are LOST: no keeper could be had, and {problem}"
    )


@contextlib.contextmanager
def jobs_ended(supervision: Supervision, kernel: Kernel, keeper: KeeperLink, output: str) -> Iterator[None]:
    """A bug of ours ends the loop: a keeper ends the jobs then, and where there is none we do it ourselves (P10)."""
    try:
        yield
    except BaseException:
        if not keeper.pid:
            _execute_will(supervision, kernel, keeper, output)
        raise


def _execute_will(supervision: Supervision, kernel: Kernel, keeper: KeeperLink, output: str) -> None:
    state = supervision.state
    while orders := supervision.take_orders():
        for order in orders:
            match order:
                case Write(record=record, t=t, mono=mono):  # it is folded into the state
                    keeper.write(t, mono, record)
                case Order(action=a.SignalGroup(pgid=pgid, signum=signum)):  # and so is that it was sent
                    kernel.signal_group(pgid, signum)
                case Order(action=a.SignalLeader(pid=pid, signum=signum)):
                    kernel.signal_process(pid, signum)

    def write(record: r.Record, at: float | None = None) -> None:
        t, mono = clock.moment(at)
        state.apply(t, mono, record)
        keeper.write(t, mono, record)

    LastWill(state, supervision.wall, write, keeper.say_ourselves, output=output).execute()
    problem = keeper.write_without_keeper(state, clock.monotonic() + SECONDS)
    if problem is not None:
        _say_lost(keeper, problem)
    keeper.finish_speaking()
