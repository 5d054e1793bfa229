"""Disks and directories that vanish, refuse or hang while a run goes on, and readers that look meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, child, job, say
from torc_supervise.errors import JournalError
from torc_supervise.operations.lookup import look_up
from torc_supervise.store import journal
from torc_supervise.store.snapshot import head_of

pytestmark = pytest.mark.process

WAITS = f"{HOLD} {say('at gate')} read -r _ <$BENCH/gate"


def test_a_working_directory_and_a_home_that_vanish_hold_up_nothing(bench: Bench) -> None:
    gate = bench.gate("gate")
    home = bench.directory / "home"
    home.mkdir()
    supervisor = bench.start(
        job("first", WAITS),
        *(job(f"j{i}", "exit 0", after=("first",)) for i in range(5)),
        job("last", SLEEPS, after=tuple(f"j{i}" for i in range(5))),
        before="cd home",
        environment={"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")},
    )
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    home.rmdir()
    gate.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    statuses = {name: result["status"] for name, result in supervisor.journal().results().items()}
    assert statuses.pop("last") == "terminated"
    assert set(statuses.values()) == {"completed"}


def test_p9_an_output_directory_that_vanishes_is_said_and_not_written_to_for_nobody(bench: Bench) -> None:
    """Exit code 70 in the end: what happened since then is nowhere."""
    gate = bench.gate("gate")
    supervisor = bench.start(job("first", WAITS), job("second", SLEEPS, after=("first",), stdio="none"))
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "the start is not written")
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    shutil.rmtree(bench.output)
    os.kill(keeper, signal.SIGCONT)
    gate.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    gone = "events.jsonl: No such file or directory"
    waiting.wait_until(lambda: gone in supervisor.said(), "it does not say so")
    supervisor.signal(signal.SIGTERM)
    bench.held.wait()
    waiting.kill_all([keeper, *supervisor.helpers()])
    supervisor.end(exit_code=70)
    assert "records are LOST" in supervisor.said()
    assert bench.leftovers() == []


def test_a_job_whose_files_cannot_be_made_fails_and_the_others_go_on(bench: Bench) -> None:
    """A directory where its stdout belongs: as a disk that is full or read-only refuses it."""
    stdio = bench.output / "job_stdio"
    (stdio / "job_wf1_j1_r1_a1.o").mkdir(parents=True)
    supervisor = bench.start(job("refused", "touch ran"), job("other", "exit 0"))
    supervisor.end(exit_code=1)
    results = supervisor.journal().results()
    assert (results["refused"]["status"], results["refused"]["return_code"]) == ("failed", 125)
    assert results["other"]["status"] == "completed"
    assert not (bench.directory / "ran").exists(), "it did not run without its files"
    assert "job_wf1_j1_r1_a1.o" in supervisor.said()


def test_p8_a_disk_that_hangs_under_the_journal_delays_no_signal_and_no_status(bench: Bench) -> None:
    leave, quick = bench.gate("leave"), bench.gate("quick")
    grace = {"sigterm_lead_seconds": 10_000.0}
    savers = [job(f"saver{i}", child("saver.py", f"checkpoint{i}", "quick"), **grace) for i in range(2)]
    supervisor = bench.start(*savers, job("slow", child("saver.py", "checkpoint", "leave"), **grace))
    bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: len(supervisor.journal().of("job_started")) == 3, "not written")
    waiting.wait_until(lambda: status(bench)["source"] == "live", "no live status")
    os.mkfifo(bench.directory / "hung_disk")
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(3, "asked", unless_gone=supervisor.pid)
    # The keeper hangs before the results come; else it might write them together with what came before.  It may do so
    # as soon as the disk does: at what it had written and not synced when we read it, or at a snapshot.
    waiting.wait_until((bench.directory / "hung_disk.reached").exists, "it does not sync")
    quick.put(b"xx")
    bench.said.expect(2, "saved", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: status(bench)["jobs_by_status"]["terminated"] == 2, "no live status")
    leave.put(b"x")
    bench.held.wait()
    assert supervisor.running, "it waits for its keeper, for a limited time"
    assert supervisor.journal().of("job_ended") == []
    answers = os.open(bench.directory / "hung_disk", os.O_RDWR)
    supervisor.end(exit_code=75)
    os.close(answers)
    results = supervisor.journal().results()
    assert [result["ended"] for result in results.values()] == ["in_grace"] * 3


def status(bench: Bench) -> dict[str, Any]:
    return look_up(str(bench.output), 1, with_jobs=False).head


def test_journal_and_snapshot_can_be_read_at_every_moment_of_a_run(bench: Bench) -> None:
    gate = bench.gate("gate")
    supervisor = bench.start(
        *(job(f"j{i}", "exit 0", after=(f"j{i - 8}",) if i >= 8 else ()) for i in range(199)),
        job("last", WAITS),  # until we have looked: the others may be faster
        max_parallel_jobs=9,
    )
    directory = bench.output / "workflows" / "1"
    seen, looks = 0, 0
    while supervisor.running:
        try:
            state, seq = journal.replay(str(directory / "events.jsonl"))
            head = head_of((directory / "status.json").read_bytes().split(b"\n")[0] + b"\n")
        except FileNotFoundError:
            continue  # not there yet
        except JournalError:
            if seen:
                raise
            continue  # its first line is being written
        state.check()
        assert seq >= seen, "a reader sees more and more"
        assert head["jobs_total"] == 200
        seen, looks = seq, looks + 1
        if looks == 2:
            gate.put(b"\n")
    supervisor.end(exit_code=0)
    assert looks > 1
    assert len(supervisor.journal().results()) == 200
