"""A run that begins to end: signals first, a few jobs at a time, and nothing is left out."""

from __future__ import annotations

from signal import SIGCONT, SIGTERM

import pytest

from support.supervised import job, workflow_of
from torc_supervise.capacity import Capacity
from torc_supervise.machine import actions as a
from torc_supervise.machine import records as r
from torc_supervise.machine.asking import AT_A_TIME
from torc_supervise.machine.orders import Order, Orders, Write
from torc_supervise.machine.supervision import Supervision
from torc_supervise.scheduler import Scheduler
from torc_supervise.store import journal

NUMBER = 5 * AT_A_TIME + 3


@pytest.fixture
def supervision() -> Supervision:
    """With NUMBER jobs that run."""
    workflow = workflow_of(*(job(f"job{number}", "true") for number in range(NUMBER)))
    state = journal.new_state(r.WorkflowCreated(r.SCHEMA_VERSION, 1, workflow.to_dict()), "t0")
    made = Supervision(
        state, Scheduler(Capacity(num_cpus=1, memory_bytes=1 << 40, num_gpus=0, max_parallel_jobs=NUMBER))
    )
    made.begin(r.RunStarted(1, "host", 1))
    for job_id in range(1, NUMBER + 1):
        assert made.start_next()
        made.on_spawned(job_id, 1000 + job_id)
    made.take_orders()
    return made


def taken(supervision: Supervision) -> list[Orders]:
    found = []
    while orders := supervision.take_orders():
        found.append(orders)
    return found


def signals(orders: Orders) -> list[int]:
    return [x.action.signum for x in orders if isinstance(x, Order) and isinstance(x.action, a.SignalGroup)]


def test_p7_signals_go_out_a_few_at_a_time_and_before_all_books(supervision: Supervision) -> None:
    supervision.on_signal(SIGTERM)
    received, *batches = taken(supervision)
    assert [type(order) for order in received] == [Write]
    assert len(batches) == NUMBER // AT_A_TIME + 1
    assert [signals(orders) for orders in batches[:-1]] == [[SIGTERM] * AT_A_TIME] * (len(batches) - 1)
    assert all(isinstance(order, Order) for orders in batches[:-1] for order in orders)
    everything = [*received, *(order for orders in batches for order in orders)]
    assert signals(everything) == [SIGTERM] * NUMBER + [SIGCONT] * NUMBER, "P14: SIGCONT follows"
    records = [order.record for order in everything if isinstance(order, Write)]
    assert isinstance(records[0], r.SignalReceived)
    assert isinstance(records[-1], r.TerminationStarted)
    assert [x.job_id for x in records if isinstance(x, r.JobSignaled)] == list(range(1, NUMBER + 1))
    supervision.check()


def test_p1_what_is_reported_in_between_finds_all_jobs_asked(supervision: Supervision) -> None:
    supervision.on_signal(SIGTERM)
    supervision.take_orders()
    first = supervision.take_orders()
    assert signals(first) == [SIGTERM] * AT_A_TIME
    supervision.on_cancel()
    rest = [order for orders in taken(supervision) for order in orders]
    assert sorted(signals(rest)) == [SIGTERM] * (NUMBER - AT_A_TIME) + [SIGCONT] * NUMBER
    records = [order.record for order in rest if isinstance(order, Write)]
    kinds = [type(x) for x in records]
    assert kinds.index(r.TerminationStarted) < kinds.index(r.WorkflowCanceled)
    assert supervision.state.canceled
    supervision.check()


def test_p6_a_job_that_is_to_be_asked_is_not_killed_for_its_memory(supervision: Supervision) -> None:
    """A cancel and a sample are read in one turn."""
    supervision.on_cancel()
    supervision.on_sample(1, 1 << 50, 1.0, at_limit=True)
    orders = [order for each in taken(supervision) for order in each]
    assert sorted(signals(orders)) == [SIGTERM] * NUMBER + [SIGCONT] * NUMBER
    supervision.check()


def test_jobs_are_asked_for_the_reason_that_came_first(supervision: Supervision) -> None:
    supervision.on_signal(SIGTERM)
    supervision.on_owner_changed("somebody")
    orders = [order for each in taken(supervision) for order in each]
    reasons = {x.record.why for x in orders if isinstance(x, Write) and isinstance(x.record, r.JobSignaled)}
    assert reasons == {"signal"}
