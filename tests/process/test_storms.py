"""Many things at once: storms of signals, exits that coalesce, and signals in the instant of a start or an exit."""

from __future__ import annotations

import os
import signal

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, child, job, say

pytestmark = pytest.mark.process

STORM = 100_000
KINDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def send(pid: int, signals: tuple[signal.Signals, ...], count: int) -> None:
    for number in range(count):
        os.kill(pid, signals[number % len(signals)])


def test_p1_a_hundred_thousand_signals_while_300_jobs_start_and_end(bench: Bench) -> None:
    """SIGCHLD for children that did not end, SIGCONT for what was not stopped: each wakes the loop."""
    gate = bench.gate("gate")
    supervisor = bench.start(
        job("first", f"{HOLD} {say('at gate')} read -r _ <$BENCH/gate"),
        *(job(f"j{i}", "exit 0", after=("first",), stdio="none") for i in range(300)),
    )
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    gate.put(b"\n")
    send(supervisor.pid, (signal.SIGCHLD, signal.SIGCONT), STORM)
    supervisor.end(exit_code=0)
    journal = supervisor.journal()
    assert {result["status"] for result in journal.results().values()} == {"completed"}
    assert len(journal.results()) == 301
    assert journal.of("signal_received") == []


def test_p1_a_hundred_thousand_signals_while_300_jobs_end_do_not_fill_the_journal(bench: Bench) -> None:
    leave = bench.gate("leave")
    # Race: the run may be over before the storm is, or before there was one signal of each kind.  One job keeps it.
    last = job("last", child("saver.py", "checkpoint", "leave"), stdio="none", sigterm_lead_seconds=10_000.0)
    supervisor = bench.start(last, *(job(f"j{i}", SLEEPS, stdio="none") for i in range(300)))
    bench.said.expect(301, "ready", unless_gone=supervisor.pid)
    send(supervisor.pid, KINDS, STORM)
    kinds = {signum.name for signum in KINDS}
    waiting.wait_until(
        lambda: {entry["signal"] for entry in supervisor.journal().of("signal_received")} == kinds,
        "not on record",
    )
    leave.put(b"x")
    supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    results = journal.results()
    assert len(results) == 301
    assert {result["ended"] for result in results.values()} == {"in_grace"}
    assert len(journal.of("job_signaled")) == 301
    assert len(journal.of("termination_started")) == 1
    received = journal.of("signal_received")
    # Each kind at most once a second, and once more at the end.
    seconds = journal.entries[-1]["mono"] - received[0]["mono"]
    assert len(received) <= len(KINDS) * (seconds + 2)
    assert supervisor.said().count("received again") <= len(received)


def test_p1_exits_whose_sigchld_is_one_are_all_seen(bench: Bench) -> None:
    """200 jobs end while the supervisor is stopped: the kernel keeps one SIGCHLD for all of them."""
    gate = bench.gate("gate")
    supervisor = bench.start(
        *(
            job(f"j{i}", f"{HOLD} {say('ready')} read -r _ <$BENCH/gate; exit 0", stdio="none")
            for i in range(200)
        )
    )
    bench.said.expect(200, "ready", unless_gone=supervisor.pid)
    supervisor.stop(supervisor.pid)
    gate.put(b"\n" * 200)
    bench.held.wait()
    os.kill(supervisor.pid, signal.SIGCONT)
    supervisor.end(exit_code=0)
    results = supervisor.journal().results()
    assert {result["status"] for result in results.values()} == {"completed"}
    assert len(results) == 200


@pytest.mark.parametrize("started", [1, 3, 9, 30, 60])
def test_p7_termination_while_a_burst_of_jobs_starts(bench: Bench, started: int) -> None:
    supervisor = bench.start(*(job(f"j{i}", SLEEPS, stdio="none") for i in range(100)))
    bench.said.expect(started, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    report = supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.leftovers() == []
    results = supervisor.journal().results()
    assert {result["ended"] for result in results.values()} == {"in_grace"}
    assert len(results) >= started
    assert report["jobs_by_status"]["terminated"] == len(results)
    asked = supervisor.journal().of("termination_started")[0]["seq"]
    late = [entry for entry in supervisor.journal().of("job_started") if entry["seq"] > asked + 1]
    assert late == [], "nothing starts once termination was asked for"


def test_p9_jobs_that_exit_in_the_instant_in_which_they_are_signalled(bench: Bench) -> None:
    """All of them are let go at the moment of the signal: some exit first, some are hit, each has one honest result."""
    gate = bench.gate("gate")
    supervisor = bench.start(
        *(
            job(f"j{i}", f"{HOLD} {say('ready')} read -r _ <$BENCH/gate; exit 0", stdio="none")
            for i in range(100)
        )
    )
    bench.said.expect(100, "ready", unless_gone=supervisor.pid)
    gate.put(b"\n" * 100)
    supervisor.signal(signal.SIGTERM)
    supervisor.end()
    bench.held.wait()
    journal = supervisor.journal()
    results = journal.results()
    assert len(results) == 100
    asked = {entry["job_id"] for entry in journal.of("job_signaled")}
    for result in results.values():
        if result["job_id"] in asked:
            assert (result["status"], result["ended"]) == ("terminated", "in_grace")
        else:
            assert (result["status"], result["return_code"]) == ("completed", 0)
    assert bench.leftovers() == []
    assert not waiting.children_of(supervisor.pid)
