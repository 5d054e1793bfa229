"""A supervisor that believes to be in an allocation; what Slurm answers is in a file.

Slurm's real programs are in tests/cluster; here they say what no healthy cluster says on demand.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from support import waiting
from support.supervised import Bench, Supervisor, child, job, workflow_of
from support.waiting import Fifo

pytestmark = pytest.mark.process

JOB_ID = "7"
FAR = 100_000.0  # seconds
NO_HURRY = {"operations.run.WAKE_KEEPER_AFTER": waiting.LIMIT}
"""Where its end is near, a supervisor waits for its last records no longer than this: five seconds otherwise."""


class FakeSlurm:
    """squeue and scontrol for one job.  Without a state slurmctld is out of reach."""

    def __init__(self, directory: Path, *, kill_wait: int = 1) -> None:
        self._answer = directory / "answer"
        self._hold = directory / "hold"
        self._end = time.time() + FAR
        self.asked = directory / "asked"
        programs = directory / "programs"
        programs.mkdir()
        for name, text in {
            "squeue": f"[ ! -e {self._hold} ] || read -r _ <{self._hold}; . {self._answer}",
            # The last program of the first question: what is said after it is said to later ones.
            "scontrol": f"echo 'KillWait                = {kill_wait} sec'; touch {self.asked}",
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_JOB_ID": JOB_ID,
            "SLURM_JOB_END_TIME": f"{self._end:.0f}",
            "SLURMD_NODENAME": "n1",
        }

    def says(self, state: str | None, left: float | None = None) -> None:
        """``left``: seconds from now until the job's end; None where it is as it was."""
        end = self._end if left is None else time.time() + left
        line = f"{JOB_ID}|{state}|None|{end:.0f}|N/A|N/A|n1|normal|(null)|name"
        said = f"echo '{line}'" if state is not None else "echo Unable to contact slurm controller; exit 1"
        replacement = self._answer.with_suffix(".new")
        replacement.write_text(f"{said}\n")
        replacement.replace(self._answer)

    def answer(self, held: Fifo) -> None:
        """Let questions pass that wait at a pipe called ``hold``, and later ones."""
        self._hold.unlink()
        held.put(b"\n" * 10)


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    made = FakeSlurm(tmp_path)
    made.says("RUNNING")
    return made


def deaf(bench: Bench, slurm: FakeSlurm, constants: dict[str, float] = NO_HURRY) -> Supervisor:
    """A job that only SIGKILL ends, with all the time in the world to save.

    The job may be ready before the supervisor's first question has been put: what Slurm says from now on is said to
    later ones.
    """
    supervisor = deaf_unasked(bench, slurm, constants)
    waiting.wait_until(slurm.asked.exists, "Slurm was not asked")
    return supervisor


def deaf_unasked(bench: Bench, slurm: FakeSlurm, constants: dict[str, float] | None = None) -> Supervisor:
    workflow = workflow_of(job("deaf", child("counts.py", "deaf")), grace=FAR / 2)
    supervisor = bench.start(workflow=workflow, environment=slurm.environment, constants=constants)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    return supervisor


def wait_for(supervisor: Supervisor, event: str) -> None:
    waiting.wait_until(lambda: f'"event":"{event}"' in journal_text(supervisor), f"no {event}")


def journal_text(supervisor: Supervisor) -> str:
    return (supervisor.output / "workflows" / "1" / "events.jsonl").read_text()


def test_what_slurm_is_ending_is_killed_and_recorded_before_slurm_kills_it(
    bench: Bench, slurm: FakeSlurm
) -> None:
    supervisor = deaf(bench, slurm)
    slurm.says("COMPLETING")
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    assert journal.results()["deaf"]["ended"] == "killed"
    assert [entry["event"] for entry in journal.of("end_changed")] == ["end_changed"]
    assert journal.of("run_started")[0]["slurm_job_id"] == JOB_ID


def test_a_sigterm_that_nobody_explains_is_taken_for_slurms_last_word(bench: Bench, slurm: FakeSlurm) -> None:
    """It judges by itself when Slurm has not explained it in time; that it could not is on record by then."""
    supervisor = deaf(bench, slurm, NO_HURRY | {"machine.end_watch.ANSWER_WITHIN": 1000.0})
    slurm.says(None)
    supervisor.signal(signal.SIGTERM)
    waiting.wait_until(lambda: "slurm_unreachable" in supervisor.journal().warnings(), "Slurm was not asked")
    supervisor.let_grace_pass()
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert supervisor.journal().results()["deaf"]["ended"] == "killed"


@pytest.mark.parametrize("replaced", [False, True], ids=["told", "its successor"])
def test_p10_the_last_will_reckons_with_the_end_that_has_moved(
    bench: Bench, slurm: FakeSlurm, replaced: bool
) -> None:
    """The end comes nearer when the job is ready, and is there while the supervisor is stopped and cannot see it."""
    held = bench.gate("hold")
    supervisor = deaf_unasked(bench, slurm)
    keeper = supervisor.keeper()
    slurm.says("RUNNING", 1000.0)
    slurm.answer(held)
    wait_for(supervisor, "end_changed")
    if replaced:
        waiting.kill_all([keeper])
        waiting.wait_until(lambda: '"code":"keeper_died"' in journal_text(supervisor), "nobody noticed")
        keeper = supervisor.keeper()
    supervisor.stop(supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.signal(signal.SIGKILL)
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert supervisor.journal().results()["deaf"]["ended"] == "killed"


def test_jobs_are_told_of_the_end_that_has_moved(bench: Bench, slurm: FakeSlurm) -> None:
    slurm.says("RUNNING", 2 * FAR)
    leave = bench.gate("leave")
    first = job("first", "echo ready >$BENCH/said; read -r _ <$BENCH/leave")
    second = job("second", 'echo "end $TORC_END_TIME" >$BENCH/said', after=("first",))
    supervisor = bench.start(first, second, environment=slurm.environment)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    wait_for(supervisor, "end_changed")
    leave.put(b"\n")
    told = float(bench.said.expect(starting_with="end", unless_gone=supervisor.pid)[0].split()[1])
    supervisor.end(exit_code=0)
    assert told > time.time() + 1.5 * FAR
