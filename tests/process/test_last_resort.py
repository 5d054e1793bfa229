"""No keeper can be had (P8, P9, P10, P12): the parent goes on, says so itself, and writes the last records itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, child, job, say, workflow_of
from torc_supervise.helpers import last_resort
from torc_supervise.helpers.last_resort import LastResort, Unconfirmed, Voice
from torc_supervise.machine import records as r
from torc_supervise.posix import clock, threads
from torc_supervise.store import journal
from torc_supervise.store.layout import WorkflowFiles, claim_new
from torc_supervise.store.lock import Lock, Owner, acquire
from torc_supervise.store.records import encode

pytestmark = pytest.mark.process

WAITS = f"{HOLD} {say('at gate')} read -r _ <$BENCH/gate"


def test_p9_without_any_keeper_jobs_go_on_and_the_parent_writes_their_results(bench: Bench) -> None:
    gate = bench.gate("gate")
    more = [job(f"b{i}", "exit 0", after=("a",)) for i in range(20)]
    supervisor = bench.start(job("a", WAITS), *more)
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    supervisor.lose_keepers()
    gate.put(b"\n")
    report = supervisor.end(exit_code=0)
    assert report["unconfirmed"] == 0
    assert "everything is written all the same" in supervisor.said()
    found = supervisor.journal()
    results = found.results()
    assert {result["status"] for result in results.values()} == {"completed"}
    assert len(results) == 21
    assert found.entries[-1]["event"] == "run_ended"
    workflow = bench.output / "workflows" / "1"
    assert not (workflow / "lock").exists()
    assert b'"completed":21' in (workflow / "status.json").read_bytes()
    assert bench.start().end(exit_code=0)["statuses"]["a"] == "completed", "it can be opened"


def test_p9_keepers_that_can_be_had_again_take_over(bench: Bench) -> None:
    gate = bench.gate("gate")
    supervisor = bench.start(job("a", WAITS), job("b", WAITS, after=("a",)), job("c", "exit 0", after=("b",)))
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    supervisor.lose_keepers()
    gate.put(b"\n")
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    supervisor.allow_keepers()
    waiting.wait_until(lambda: supervisor.journal().of("job_started", job_id=2), "no keeper has written")
    gate.put(b"\n")
    supervisor.end(exit_code=0)
    assert "all the same" not in supervisor.said()
    assert {result["status"] for result in supervisor.journal().results().values()} == {"completed"}


def test_p8_a_stopped_terminal_does_not_hold_up_a_parent_without_keepers(bench: Bench) -> None:
    """A terminal on which Ctrl-S was pressed takes nothing."""
    terminal, theirs = os.openpty()
    supervisor = bench.start(job("saver", child("saver.py", "checkpoint", "-")), stderr=theirs)
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    os.write(terminal, b"\x13")
    keeper = supervisor.keeper()
    (bench.directory / "no_keepers").touch()
    os.kill(keeper, signal.SIGKILL)
    waiting.wait_until(lambda: voices(supervisor.pid), "it has not begun to speak")
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(1, "saved", unless_gone=supervisor.pid)
    supervisor.end(exit_code=75)
    assert supervisor.journal().results()["saver"]["ended"] == "in_grace"
    assert bench.leftovers() == []
    os.close(theirs)
    os.close(terminal)


def voices(pid: int) -> bool:
    """Has it a second thread?"""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except FileNotFoundError:
        return False


def test_p10_a_bug_in_a_parent_without_keepers_leaves_no_job_behind(bench: Bench) -> None:
    supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")), job("sleeps", SLEEPS))
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.lose_keepers()
    supervisor.break_loop()
    supervisor.end(exit_code=1)
    bench.held.wait()
    results = supervisor.journal().results()
    assert {result["ended"] for result in results.values()} == {"in_grace"}
    assert {result["why"] for result in results.values()} == {"supervisor_died"}
    assert supervisor.journal().entries[-1]["event"] == "run_ended"
    assert (bench.directory / "checkpoint").exists()


def test_p12_files_of_a_job_that_nobody_can_look_at_are_not_waited_for(bench: Bench) -> None:
    gate = bench.gate("gate")
    makes = job("makes", f"{WAITS}; touch made", output_files=("made",))
    supervisor = bench.start(workflow=workflow_of(makes, files={"made": str(bench.directory / "made")}))
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    supervisor.lose_keepers()
    gate.put(b"\n")
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["makes"]["status"] == "completed"
    assert "unverified" in supervisor.journal().warnings()


# -- the writing itself ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> WorkflowFiles:
    made = claim_new(str(tmp_path / "out"))
    first = r.WorkflowCreated(r.SCHEMA_VERSION, 1, workflow_of(job("j", "true")).to_dict())
    journal.create(made.journal, first, "t", 0.0)
    return made


def line(seq: int) -> tuple[int, bytes]:
    return seq, encode(seq, "t", 0.0, r.Warned(1, "code", f"number {seq}"))


def locked(files: WorkflowFiles) -> Lock:
    owner = Owner("here", os.getpid(), 1, None, "t", "run")
    return acquire(files.lock, owner, lambda owner: False)[0]


def unconfirmed(files: WorkflowFiles, lock: Lock, *numbers: int) -> Unconfirmed:
    return Unconfirmed(files, lock, [line(number) for number in numbers], lambda: [b"{}\n"])


def numbers(files: WorkflowFiles) -> list[int]:
    return [entry.seq for entry in journal.read(files.journal)]


def within(seconds: float) -> float:
    return clock.monotonic() + seconds


def test_p9_what_is_in_the_journal_already_is_not_written_again(files: WorkflowFiles) -> None:
    with open(files.journal, "ab") as file:
        file.write(line(2)[1] + b'{"torn')
    assert LastResort(unconfirmed(files, locked(files), 2, 3, 4), within(waiting.LIMIT)).finish() is None
    assert numbers(files) == [1, 2, 3, 4]
    assert not os.path.exists(files.lock)
    assert Path(files.snapshot).read_bytes() == b"{}\n"


def test_p9_nothing_is_written_where_somebody_else_owns_the_workflow(files: WorkflowFiles) -> None:
    ours = locked(files)
    locked(files)  # takes it over
    problem = LastResort(unconfirmed(files, ours, 2), within(0.0)).finish()
    while problem is not None and "does not answer" in problem:
        problem = LastResort(unconfirmed(files, ours, 2), within(0.1)).finish()
    assert problem is not None
    assert "somebody else" in problem
    assert numbers(files) == [1]
    assert os.path.exists(files.lock)


def test_p12_a_disk_that_hangs_is_waited_for_only_so_long(
    files: WorkflowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, answers = threading.Event(), threading.Event()

    def hang(descriptor: int) -> None:
        hung.set()
        answers.wait()

    lock = locked(files)
    monkeypatch.setattr("torc_supervise.store.journal.os.fsync", hang)
    resort = LastResort(unconfirmed(files, lock, 2), within(0.05))
    assert hung.wait(waiting.LIMIT)
    problem = resort.finish()
    assert problem is not None
    assert "does not answer" in problem
    answers.set()


def test_p9_a_disk_that_is_full_for_a_while(files: WorkflowFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    append: Callable[..., None] = journal.Journal.append

    def refuse(self: journal.Journal, lines: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(28, "No space left on device")
        append(self, lines)

    monkeypatch.setattr(journal.Journal, "append", refuse)
    monkeypatch.setattr(last_resort, "RETRY_AFTER", 0.0)
    assert LastResort(unconfirmed(files, locked(files), 2), within(waiting.LIMIT)).finish() is None
    assert (tries, numbers(files)) == (3, [1, 2])


def refuse_threads(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As a machine does that is too full for them."""
    left, start = [None] * times, threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if left:
            left.pop()
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_p11_without_a_thread_the_last_records_wait_for_one(
    files: WorkflowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, 3)
    monkeypatch.setattr(threads, "TRY_AGAIN_AFTER", 0.0)
    assert LastResort(unconfirmed(files, locked(files), 2), within(waiting.LIMIT)).finish() is None
    assert numbers(files) == [1, 2]


def test_p11_where_there_never_is_a_thread_that_is_the_problem(
    files: WorkflowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, 1)
    problem = LastResort(unconfirmed(files, locked(files), 2), time.monotonic()).finish()
    assert problem == "no thread can be started that writes them"


def test_p11_a_voice_that_finds_no_thread_is_raised_later(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, 1)
    monkeypatch.setattr(last_resort, "LAST_WORDS_LIMIT", waiting.LIMIT)
    voice = Voice()
    assert not voice.raise_()
    voice.say("nobody hears this")
    voice.finish()
    assert voice.raise_()
    voice.say("hello")
    voice.finish()
    voice.lower()
    assert capfd.readouterr().err == "torc-supervise: hello\n"


def test_a_voice_has_no_thread_until_it_is_raised_and_none_after_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_resort, "LAST_WORDS_LIMIT", waiting.LIMIT)
    before = set(threading.enumerate())  # one of an earlier test may be about to end
    voice = Voice()
    voice.lower()
    voice.finish()
    assert not voice.raised
    assert set(threading.enumerate()) <= before
    assert voice.raise_()
    voice.say("hello")
    voice.finish()
    voice.lower()
    assert not voice.raised
    assert capfd.readouterr().err == "torc-supervise: hello\n"
