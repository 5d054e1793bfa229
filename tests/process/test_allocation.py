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

pytestmark = pytest.mark.process

JOB_ID = "7"
FAR = 100_000.0  # seconds


class FakeSlurm:
    """squeue and scontrol for one job.  Without a state slurmctld is out of reach."""

    def __init__(self, directory: Path, *, kill_wait: int = 1) -> None:
        self._answer = directory / "answer"
        self.asked = directory / "asked"
        programs = directory / "programs"
        programs.mkdir()
        for name, text in {
            "squeue": f"cat {self._answer}; exit $(cat {self._answer}.code)",
            # The last program of the first question: what is said after it is said to later ones.
            "scontrol": f"echo 'KillWait                = {kill_wait} sec'; touch {self.asked}",
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_JOB_ID": JOB_ID,
            "SLURM_JOB_END_TIME": f"{time.time() + FAR:.0f}",
            "SLURMD_NODENAME": "n1",
        }

    def says(self, state: str | None, left: float = FAR) -> None:
        """``left``: seconds from now until the job's end."""
        line = f"{JOB_ID}|{state}|None|{time.time() + left:.0f}|N/A|N/A|n1|normal|(null)|name"
        replacement = self._answer.with_suffix(".new")
        replacement.write_text(f"{line}\n" if state is not None else "Unable to contact slurm controller\n")
        self._answer.with_suffix(".code").write_text("0" if state is not None else "1")
        replacement.replace(self._answer)


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    made = FakeSlurm(tmp_path)
    made.says("RUNNING")
    return made


def deaf(bench: Bench, slurm: FakeSlurm) -> Supervisor:
    """A job that only SIGKILL ends, with all the time in the world to save.

    The job may be ready before the supervisor's first question has been put: what Slurm says from now on is said to
    later ones.
    """
    workflow = workflow_of(job("deaf", child("counts.py", "deaf")), grace=FAR / 2)
    supervisor = bench.start(workflow=workflow, environment=slurm.environment)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    waiting.wait_until(slurm.asked.exists, "Slurm was not asked")
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
    supervisor = deaf(bench, slurm)
    slurm.says(None)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert supervisor.journal().results()["deaf"]["ended"] == "killed"
    assert "slurm_unreachable" in supervisor.journal().warnings()


@pytest.mark.parametrize("replaced", [False, True], ids=["told", "its successor"])
def test_p10_the_last_will_reckons_with_the_end_that_has_moved(
    bench: Bench, slurm: FakeSlurm, replaced: bool
) -> None:
    slurm.says("RUNNING", 10.0)
    supervisor = deaf(bench, slurm)
    wait_for(supervisor, "end_changed")
    keeper = supervisor.keeper()
    if replaced:
        waiting.kill_all([keeper])
        wait_for(supervisor, "warning")
        keeper = supervisor.keeper()
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
