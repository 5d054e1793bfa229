"""What a supervisor may be given: far deadlines, odd masks and limits, and children that are not its own."""

from __future__ import annotations

import os
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


# -- P1: signals ---------------------------------------------------------------------------------------------------


def test_p1_a_supervisor_that_was_started_with_its_signals_blocked(bench: Bench) -> None:
    """As a wrapper does that blocks them around its own fork, or a launcher that takes them with sigwait."""
    leave = bench.gate("leave")
    waits = f"{HOLD} {say('waits')} read -r _ <$BENCH/leave"
    jobs = (job("waits", waits), job("saves", child("saver.py", "checkpoint", "-"), after=("waits",)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        supervisor = bench.start(*jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    bench.said.expect(starting_with="waits", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert {r["status"] for r in supervisor.journal().results().values()} == {"completed", "terminated"}


def test_p10_a_terminals_ctrl_backslash_reaches_all_of_us_and_the_keeper_ends_the_jobs(bench: Bench) -> None:
    """SIGQUIT to the whole process group of the supervisor: it dies, its helpers do not."""
    supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")), before="ulimit -c 0")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    os.killpg(supervisor.pid, signal.SIGQUIT)
    bench.said.expect(starting_with="saved", unless_gone=keeper)
    waiting.wait_for_end(keeper)
    assert supervisor.end(exit_code=-signal.SIGQUIT) == {}
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"
