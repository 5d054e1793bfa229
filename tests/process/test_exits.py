"""How a supervisor ends, by itself or by force, and what its keeper does then (P9, P10, P12)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support import waiting
from support.supervised import SLEEPS, Bench, Supervisor, child, job, workflow_of

pytestmark = pytest.mark.process


def lock_of(bench: Bench) -> Path:
    return bench.output / "workflows" / "1" / "lock"


def wait_for_signature(bench: Bench, supervisor: Supervisor) -> int:
    """Until the keeper has put its name on the lock, which it does beside all else; returns its pid."""
    keeper = supervisor.keeper()
    waiting.wait_until(
        lambda: f'"keeper_pid":{keeper},' in lock_of(bench).read_text(), "the lock is not signed"
    )
    return keeper


# -- an exception ------------------------------------------------------------------------------------------------


def test_p10_a_workflow_is_not_free_while_the_keeper_ends_the_jobs_of_a_loop_that_broke(bench: Bench) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("saves", child("saver.py", "checkpoint", "leave"), sigterm_lead_seconds=1000.0)
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = wait_for_signature(bench, supervisor)
    supervisor.break_loop()
    bench.said.expect(starting_with="asked", unless_gone=keeper)
    assert supervisor.end_alone() != 0
    assert "RuntimeError: a bug" in supervisor.said()
    (bench.directory / "fault").unlink()
    refused = bench.start(resume=True)
    refused.end(exit_code=2)
    assert f"its keeper {keeper}" in refused.said()
    leave.put(b"x")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert not lock_of(bench).exists()
    result = supervisor.journal().results()["saves"]
    assert (result["status"], result["ended"], result["why"]) == ("terminated", "in_grace", "supervisor_died")
    again = bench.start(job("other", "exit 0"))
    again.end(exit_code=0)


def test_p6_a_grace_that_has_begun_goes_on_when_the_parent_is_killed(bench: Bench) -> None:
    """The job is not asked again.  (That its time is counted from the first signal: test_last_will.py.)

    The parent does not see that the grace is over: it is stopped.
    """
    supervisor = bench.start(workflow=workflow_of(job("deaf", child("counts.py")), grace=1000.0))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_signaled"), "it is not recorded")
    supervisor.stop(supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.signal(signal.SIGKILL)
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert bench.said.drain() == [], "it was asked once"
    assert supervisor.journal().results()["deaf"]["ended"] == "killed"


# -- the control socket ------------------------------------------------------------------------------------------


def test_a_killed_keeper_leaves_no_control_socket_behind(bench: Bench) -> None:
    directory = bench.directory / "runtime"
    directory.mkdir()
    supervisor = bench.start(job("sleeps", SLEEPS), environment={"XDG_RUNTIME_DIR": str(directory)})
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    first = supervisor.keeper()
    waiting.wait_until(lambda: list(directory.glob("*/control")), "no control socket")
    os.kill(first, signal.SIGKILL)
    waiting.wait_until(lambda: set(supervisor.helpers()) - {first}, "no new keeper")
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert list(directory.iterdir()) == []


# -- the lock ------------------------------------------------------------------------------------------------------


def test_p12_a_lock_on_a_file_system_that_hangs_does_not_keep_the_supervisor(bench: Bench) -> None:
    """A FIFO in its place: who reads it waits for ever.  Everything is written, so the run was a success."""
    gate = bench.gate("gate")
    supervisor = bench.start(job("waits", f"echo at gate >$BENCH/said; read -r _ <{gate.path}"))
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    keeper = wait_for_signature(bench, supervisor)
    pipe = lock_of(bench).with_name("pipe")
    os.mkfifo(pipe)
    pipe.rename(lock_of(bench))  # in one step: one that is missing is put back
    gate.put(b"\n")
    assert supervisor.end_alone() == 0
    assert waiting.state_of(keeper) not in ("Z", None), "it is the one that hangs"
    assert supervisor.journal().entries[-1]["event"] == "run_ended"


def test_the_lock_is_gone_when_the_supervisor_is(bench: Bench) -> None:
    supervisor = bench.start(job("short", "exit 0"))
    supervisor.end(exit_code=0)
    assert not lock_of(bench).exists()


def test_a_lock_is_released_by_the_second_keeper_as_well(bench: Bench) -> None:
    supervisor = bench.start(job("sleeps", SLEEPS))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    first = supervisor.keeper()
    os.kill(first, signal.SIGKILL)
    waiting.wait_until(lambda: set(supervisor.helpers()) - {first}, "no new keeper")
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert not lock_of(bench).exists()
