"""Actions of real runs: commands on every trigger, and none that outlives its supervisor."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from msgspec.structs import replace

from support import waiting
from support.errands import entry
from support.supervised import HOLD, SLEEPS, Bench, child, job, say, workflow_of
from torc_supervise.workflow.model import Job, Workflow

pytestmark = pytest.mark.process


def with_actions(*entries: dict[str, Any], jobs: tuple[Job, ...], **fields: Any) -> Workflow:
    return replace(workflow_of(*jobs, **fields), extra={"actions": list(entries)})


def note(text: str) -> list[str]:
    """Commands that write a line, in the order of which they are run."""
    return [f"echo {text} >>notes"]


HOLDING = f"{HOLD} {say('command $$')} exec sleep 1000"


def test_every_trigger_has_its_moment(bench: Bench) -> None:
    noted = "echo {} >>$TORC_OUTPUT_DIR/notes"
    workflow = with_actions(
        entry("on_workflow_start", commands=note("workflow start")),
        entry("on_worker_start", commands=note("worker start")),
        entry("on_jobs_ready", 1, commands=["read -r _ <$BENCH/first", *note("a is ready")]),
        entry("on_jobs_ready", 2, commands=note("b is ready")),
        entry("on_jobs_complete", 1, 2, commands=note("both complete")),
        entry("on_workflow_complete", commands=note("workflow complete")),
        entry("on_worker_complete", commands=note("worker complete")),
        jobs=(
            job("a", f"{noted.format('a')}; {say('a runs')}"),
            job("b", f"read -r _ <$BENCH/second; {noted.format('b')}", after=("a",)),
        ),
    )
    first, second = bench.gate("first"), bench.gate("second")
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "a runs", unless_gone=supervisor.pid)  # whatever on_jobs_ready is about
    first.put(b"x\n")
    notes = bench.output / "notes"
    waiting.wait_until(lambda: "b is ready" in notes.read_text(), "the action is not taken")
    second.put(b"x\n")
    supervisor.end(exit_code=0)
    lines = notes.read_text().splitlines()
    assert lines == [
        *("workflow start", "worker start", "a", "a is ready", "b is ready", "b"),
        *("both complete", "workflow complete", "worker complete"),
    ]
    taken = supervisor.journal().of("action_taken")
    assert [(x["action"], x["ok"]) for x in taken] == [(n, True) for n in range(7)]
    assert supervisor.journal().entries[-1]["event"] == "run_ended"


def test_jobs_find_what_the_commands_of_the_start_have_made(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_workflow_start", commands=["mkdir made", "read -r _ <$BENCH/slow; echo x >made/file"]),
        jobs=(job("reads", "cat $TORC_OUTPUT_DIR/made/file"),),
    )
    slow = bench.gate("slow")
    supervisor = bench.start(workflow=workflow)
    slow.put(b"x\n")
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["reads"]["status"] == "completed"


def test_a_command_that_fails_is_a_warning_and_no_more(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_workflow_start", commands=["exit 3", "touch never"]),
        jobs=(job("a", "true"),),
    )
    supervisor = bench.start(workflow=workflow)
    supervisor.end(exit_code=0)
    (taken,) = supervisor.journal().of("action_taken")
    assert taken["ok"] is False
    assert "command 1 of 2: exit code 3" in taken["message"]
    assert supervisor.journal().warnings() == ["action_failed"]
    assert not (bench.output / "never").exists()
    again = bench.start(resume=True)
    again.end(exit_code=0)
    assert len(again.journal().of("action_taken")) == 1, "it was taken, if in vain"


def test_a_slow_command_delays_neither_a_signal_nor_the_end(bench: Bench) -> None:
    """A command that listens to nothing, beside a job that saves."""
    workflow = with_actions(
        entry("on_jobs_ready", 1, commands=[f"trap '' TERM; {HOLD} {say('command')} sleep 1000; sleep 1000"]),
        jobs=(job("saves", child("saver.py", "checkpoint", "-"), sigterm_lead_seconds=1000.0),),
        grace=1.0,  # of the command
    )
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(1, "saved", unless_gone=supervisor.pid)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert supervisor.journal().of("action_taken") == [], "due again in the next run"


def test_a_signal_while_jobs_wait_for_commands_starts_none_of_them(bench: Bench) -> None:
    workflow = with_actions(entry("on_worker_start", commands=[HOLDING]), jobs=(job("a", SLEEPS),))
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert supervisor.journal().of("job_started") == []


def test_the_next_run_takes_what_this_one_could_not(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_workflow_start", commands=[f"test -e $BENCH/go || {{ {HOLDING}; }}"]),
        jobs=(job("a", "true"),),
    )
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    (bench.directory / "go").touch()
    again = bench.start(resume=True)
    again.end(exit_code=0)
    assert [x["ok"] for x in again.journal().of("action_taken")] == [True]


def test_the_commands_of_the_end_run_after_a_signal_too(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_worker_complete", commands=note("$TORC_TRIGGER")),
        entry("on_workflow_complete", commands=note("never")),
        jobs=(job("sleeps", SLEEPS),),
    )
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert (bench.output / "notes").read_text() == "on_worker_complete\n"


def test_what_commands_leave_in_the_background_is_ended_with_the_run(bench: Bench) -> None:
    monitor = f"({HOLD} {say('monitor')} exec sleep 1000) &"
    workflow = with_actions(
        entry("on_worker_start", commands=[monitor]),
        jobs=(job("a", "read -r _ <$BENCH/gate"),),
    )
    gate = bench.gate("gate")
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "monitor", unless_gone=supervisor.pid)
    gate.put(b"x\n")
    supervisor.end(exit_code=0)
    bench.held.wait()


def test_p10_no_command_outlives_a_killed_parent(bench: Bench) -> None:
    workflow = with_actions(
        entry(
            "on_jobs_ready",
            1,
            commands=[f"trap '' TERM; (sleep 1000)& {HOLD} {say('command')} sleep 1000; true"],
        ),
        jobs=(job("sleeps", SLEEPS),),
    )
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    waiting.wait_for_end(keeper)
    bench.held.wait()
    waiting.wait_until(lambda: not bench.leftovers(), f"they outlived it: {bench.leftovers()}")


def test_p10_commands_of_a_killed_keeper_are_ended_and_not_run_twice(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_jobs_ready", 1, commands=[HOLDING, "touch never"]),
        jobs=(job("a", "read -r _ <$BENCH/gate"),),
    )
    gate = bench.gate("gate")
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    os.kill(supervisor.keeper(), signal.SIGKILL)
    waiting.wait_until(lambda: "keeper died over its commands" in supervisor.said(), "nobody noticed")
    gate.put(b"x\n")
    supervisor.end(exit_code=0)
    bench.held.wait()
    (taken,) = supervisor.journal().of("action_taken")
    assert taken["ok"] is False
    assert bench.said.drain() == []
    assert not (bench.output / "never").exists()


def test_p10_jobs_do_not_start_beside_commands_that_a_killed_keeper_has_left(bench: Bench) -> None:
    """The command, and what has left its group, hold a lock that the job finds free."""
    holds = f"exec 8>$BENCH/lock; flock 8; setsid sleep 1000 & trap '' TERM; {HOLD} {say('command')} sleep 1000; true"
    workflow = with_actions(
        entry("on_workflow_start", commands=[holds, "touch never"]),
        jobs=(job("needs it", "flock -n $BENCH/lock true"),),
        grace=1.0,
    )
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    os.kill(supervisor.keeper(), signal.SIGKILL)
    supervisor.end(exit_code=0)
    bench.held.wait()
    assert supervisor.journal().results()["needs it"]["status"] == "completed"
    (taken,) = supervisor.journal().of("action_taken")
    assert "keeper died over its commands" in taken["message"]
    assert "what was left of them was ended" in taken["message"]
    assert not (bench.output / "never").exists()


def test_p10_with_parent_and_keeper_killed_the_next_open_ends_the_commands(bench: Bench) -> None:
    workflow = with_actions(
        entry("on_jobs_ready", 1, commands=[HOLDING]), jobs=(job("a", "read -r _ <$BENCH/gate"),)
    )
    bench.gate("gate")
    supervisor = bench.start(workflow=workflow)
    bench.said.expect(1, "command", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(supervisor.pid)
    supervisor.stop(keeper)
    waiting.kill_all([keeper, supervisor.pid])
    for pid in (keeper, supervisor.pid):
        waiting.wait_for_end(pid)  # or the lock's owner is alive for who comes next
    bench.start().end(exit_code=0)
    bench.held.wait()
