"""What a supervisor may be given: far deadlines, odd masks and limits, and children that are not its own."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from support import waiting
from support.supervised import HOLD, Bench, child, job, needs, say, workflow_of

pytestmark = pytest.mark.process


# -- P12: no deadline is too far away ------------------------------------------------------------------------------

FAR = [
    pytest.param({"requirements": needs(runtime_seconds=30 * 86400.0)}, {}, id="runtime P30D"),
    pytest.param({}, {"time_limit": 1_000_000 * 3600.0}, id="time limit of 1,000,000 h"),
]


@pytest.mark.parametrize(("fields", "options"), FAR)
def test_p12_a_deadline_may_be_months_away(
    bench: Bench, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    """epoll and poll take at most 24.8 days."""
    leave = bench.gate("leave")
    waits = f"{HOLD} {say('ready')} read -r _ <$BENCH/leave"
    supervisor = bench.start(job("waits", waits, **fields), **options)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    leave.put(b"\n")
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["waits"]["status"] == "completed"


@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p12_a_grace_may_be_months_long(bench: Bench, killed: bool) -> None:
    leave = bench.gate("leave")
    saver = job("saver", child("saver.py", "checkpoint", "leave"))
    supervisor = bench.start(workflow=workflow_of(saver, grace=3_000_000.0))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    bench.said.expect(starting_with="asked", unless_gone=keeper)
    leave.put(b"x")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert supervisor.journal().results()["saver"]["ended"] == "in_grace"
