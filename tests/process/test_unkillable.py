"""Jobs that stay whatever is done: on a real kernel, and without a driver that hangs (P12, P14)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from support import waiting
from support.supervised import CHILDREN, HOLD, SLEEPS, Bench, child, job, say

pytestmark = pytest.mark.process


@pytest.fixture
def trace() -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Have a process traced by one that takes no notice of its end."""
    tracers: list[subprocess.Popen[bytes]] = []

    def start(pid: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(CHILDREN / "tracer.py"), str(pid)]
        tracer = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        tracers.append(tracer)
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"traces\n":
            assert tracer.stderr is not None
            pytest.skip(f"ptrace is not allowed here: {tracer.stderr.read().decode().strip()}")
        return tracer

    yield start
    for tracer in tracers:
        tracer.kill()
        tracer.communicate()


@pytest.mark.root
@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p12_a_job_that_is_never_seen_to_end_does_not_keep_us(
    bench: Bench, trace: Callable[[int], subprocess.Popen[bytes]], killed: bool
) -> None:
    """Its end is kept from its parent by a tracer.  Others end as ever, and the exit comes in bounded time."""
    supervisor = bench.start(
        job("traced", SLEEPS, saves=False), job("saves", child("saver.py", "saved", "-"))
    )
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    pid = next(int(line.split()[1]) for line in ready if len(line.split()) == 2)
    keeper = supervisor.keeper()
    trace(pid)
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    waiting.wait_for_end(keeper)
    supervisor.end(exit_code=-signal.SIGKILL if killed else 75)
    assert waiting.state_of(pid) == "Z", "it is still there: nobody collects it before its tracer ends"
    results = supervisor.journal().results()
    # The keeper is nobody's parent: for it a zombie is no member of a group, and the job was killed.
    assert results["traced"]["ended"] == ("killed" if killed else "unkillable")
    assert results["traced"]["status"] == "terminated"
    assert results["saves"]["ended"] == "in_grace"


@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p14_a_stopped_group_is_continued_so_that_it_can_save(bench: Bench, killed: bool) -> None:
    saver = child("saver.py", "saved", "-")
    supervisor = bench.start(job("stopped", f"{HOLD} {say('leader $$')} {saver} & {saver} & wait; wait"))
    leader = int(bench.said.expect(1, "leader", unless_gone=supervisor.pid)[0].split()[1])
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    os.killpg(leader, signal.SIGSTOP)
    waiting.wait_for_state(leader, "T")
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    bench.said.expect(2, "saved", unless_gone=None if killed else supervisor.pid)
    waiting.wait_for_end(keeper)
    bench.held.wait()
    assert supervisor.journal().results()["stopped"]["ended"] == "in_grace"
