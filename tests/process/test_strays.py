"""Attempts that were started and whose record was lost with those who were to write it (P9, P10)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, child, job, say, until_trapped, workflow_of
from torc_supervise.errors import JournalError
from torc_supervise.helpers import strays
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.last_will import LastWill
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.state import WorkflowState
from torc_supervise.operations.opened import create_workflow, open_workflow
from torc_supervise.operations.reinitialize import first_record
from torc_supervise.posix import clock, marks, procfs
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.store import journal
from torc_supervise.store.lock import acquire

pytestmark = pytest.mark.process

OURS = f"ours-{os.getpid()}"  # tests that run beside this one start and end processes of their own

WAITS = f"{HOLD} {say('at gate')} read -r _ <$BENCH/gate"
SAVES = f"trap 'exit 3' TERM; echo ready; {until_trapped('$TORC_OUTPUT_DIR/quiet')}"


@contextmanager
def process(nonce: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As a job's leader is, with what it carries."""
    marks = {
        "TORC_RUN_NONCE": nonce,
        "TORC_WORKFLOW_ID": "1",
        "TORC_RUN_ID": "1",
        "TORC_JOB_ID": "1",
        "TORC_ATTEMPT_ID": "1",
        "TORC_OUTPUT_DIR": str(output),
    }
    if not (output / "quiet").exists():
        os.mkfifo(output / "quiet")
    with subprocess.Popen(
        ["bash", "-c", SAVES], start_new_session=True, stdout=subprocess.PIPE, env={**os.environ, **marks}
    ) as made:
        assert made.stdout is not None
        try:
            assert made.stdout.readline() == b"ready\n"
            yield made
        finally:
            made.kill()


def execute(output: Path, *earlier: r.Record) -> tuple[WorkflowState, list[r.Record]]:
    """The last will for a run with the nonce ``OURS``."""
    state, written = WorkflowState(1, workflow_of(job("j", "true"))), list[r.Record]()
    for record in (r.RunStarted(1, "here", 1, nonce=OURS), *earlier):
        state.apply("t", clock.monotonic(), record)

    def write(record: r.Record, at: float | None = None) -> None:
        state.apply("t", at if at is not None else clock.monotonic(), record)
        written.append(record)

    LastWill(state, WallTime(), write, lambda text: None, output=str(output)).execute()
    state.check()
    return state, written


@pytest.mark.usefixtures("patient_reads")
def test_p9_an_attempt_that_nobody_was_told_of_is_recorded_and_gets_its_grace(tmp_path: Path) -> None:
    with process(OURS, tmp_path) as stray:
        _, written = execute(tmp_path)
        assert stray.wait(waiting.LIMIT) == 3, "it was asked, and left by itself"
    assert written[0] == r.JobStarted(1, 1, 1, stray.pid, stray.pid)
    assert [(x.status, x.ended) for x in written if isinstance(x, r.JobEnded)] == [("terminated", "in_grace")]


@pytest.mark.usefixtures("patient_reads")
def test_p9_an_attempt_is_asked_however_late_its_record_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens the workflow is held up between the look at the attempt and its record, for longer than kin.SLACK."""
    workflow = workflow_of(job("j", "true"))
    opened = create_workflow(str(tmp_path), lambda new: first_record(workflow, new), "run", lambda text: None)
    opened.append(r.RunStarted(1, "here", 1, nonce=OURS))
    late, monotonic = 0.0, time.monotonic

    def write(record: r.Record, at: float | None = None) -> None:
        nonlocal late
        late += 10.0 * isinstance(record, r.JobStarted)
        opened.append(record, at=at)

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late)
    with opened, process(OURS, tmp_path) as stray:
        LastWill(opened.state, WallTime(), write, lambda text: None, output=str(tmp_path)).execute()
        assert stray.wait(waiting.LIMIT) == 3, "it was asked, and left by itself"
    assert opened.state.results[1][1].ended == "in_grace"


@pytest.mark.usefixtures("patient_reads")
def test_p9_a_start_that_cannot_be_read_yet_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it is still between its fork and its first instruction when the last will looks."""
    real, looks = marks.environment_block, Counter[int]()

    def not_yet(about: ProcessStat) -> bytes | None:
        looks[about.pid] += 1
        return None if looks[about.pid] == 1 else real(about)

    monkeypatch.setattr(marks, "environment_block", not_yet)
    with process(OURS, tmp_path) as stray:
        _, written = execute(tmp_path)
        assert stray.wait(waiting.LIMIT) == 3, "it was asked, and left by itself"
    assert written[0] == r.JobStarted(1, 1, 1, stray.pid, stray.pid)


def daemon_instead_of(
    leader: subprocess.Popen[bytes], output: Path, ending: ExitStack
) -> subprocess.Popen[bytes]:
    """The leader leaves one behind, and is gone."""
    daemon = ending.enter_context(process(OURS, output))
    leader.kill()
    leader.wait()
    return daemon


@pytest.mark.usefixtures("patient_reads")
def test_p9_a_daemon_of_a_start_that_ended_before_it_could_be_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last will was stopped meanwhile, so the time for which it asks again is over, too."""
    real, daemons = marks.environment_block, list[subprocess.Popen[bytes]]()

    with ExitStack() as ending:
        leader = ending.enter_context(process(OURS, tmp_path))

        def unreadable(about: ProcessStat) -> bytes | None:
            if about.pid != leader.pid:
                return real(about)
            if not daemons:
                daemons.append(daemon_instead_of(leader, tmp_path, ending))
            return None

        monkeypatch.setattr(marks, "environment_block", unreadable)
        found = strays.carriers(OURS, patience=0.0)
    assert {about.sid for about, _ in found} == {daemon.pid for daemon in daemons}


@pytest.mark.usefixtures("patient_reads")
def test_p9_a_daemon_of_a_start_that_ended_before_it_was_looked_at_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last will was stopped between its list of all processes and its look at this one."""
    real, daemons = procfs.everything, list[subprocess.Popen[bytes]]()

    with ExitStack() as ending:

        def too_late() -> Iterator[ProcessStat]:
            monkeypatch.setattr(procfs, "everything", real)
            listed = list(real())
            daemons.append(daemon_instead_of(leader, tmp_path, ending))
            yield from (about for about in listed if about.sid != leader.pid)

        leader = ending.enter_context(process(OURS, tmp_path))
        monkeypatch.setattr(procfs, "everything", too_late)
        found = strays.carriers(OURS, patience=0.0)
    assert {about.sid for about, _ in found} - {leader.pid} == {daemon.pid for daemon in daemons}


def test_p9_a_start_that_waited_for_a_disk_is_asked_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In uninterruptible sleep at the first look: what was seen of it then must not be believed for ever."""
    real = procfs.everything

    def once() -> Iterator[ProcessStat]:
        monkeypatch.setattr(procfs, "everything", real)
        for about in real():
            yield replace(about, state="D") if about.pid == stray.pid else about

    with process(OURS, tmp_path) as stray:
        monkeypatch.setattr(procfs, "everything", once)
        found = strays.carriers(OURS, patience=waiting.LIMIT)
    assert {about.sid for about, _ in found} == {stray.pid}
    assert stray.pid in {about.pid for about, _ in found}


@pytest.mark.usefixtures("patient_reads")
def test_control_what_is_left_of_an_attempt_on_record_is_killed(tmp_path: Path) -> None:
    over = (r.JobStarted(1, 1, 1, 77, 77), r.JobEnded(1, 1, 1, "completed", "exited", 0))
    with process(OURS, tmp_path) as left:
        _, written = execute(tmp_path, *over)
        assert left.wait(waiting.LIMIT) == -9
    assert [type(record) for record in written] == [r.Warned, r.RunEnded]


def test_control_what_another_run_has_started_is_not_touched(tmp_path: Path) -> None:
    with process("theirs", tmp_path) as other:
        _, written = execute(tmp_path)
        assert other.poll() is None
    assert [type(record) for record in written] == [r.RunEnded]


@pytest.mark.usefixtures("patient_reads")
def test_p10_a_keeper_that_was_told_nothing_yet_ends_and_records_the_first_start(tmp_path: Path) -> None:
    """The parent was killed between its first spawn and its first word."""
    workflow = workflow_of(job("j", "true"))
    opened = create_workflow(str(tmp_path), lambda new: first_record(workflow, new), "run", lambda text: None)
    setup = KeeperSetup(opened.files, opened.state, opened.lock, WallTime())
    link = KeeperLink(setup, opened.seq, lambda pid: None)
    with process(opened.lock.owner.nonce, tmp_path) as stray:
        link.close()
        assert stray.wait(waiting.LIMIT) == 3, "it was asked, and left by itself"
        os.waitpid(link.pid, 0)
    state, _ = journal.replay(opened.files.journal)
    assert not state.run_is_open
    assert state.results[1][1].ended == "in_grace"
    assert not os.path.exists(opened.files.lock)


def test_p9_with_both_killed_a_start_that_was_not_written_yet_is_recorded_by_the_next_open(
    bench: Bench,
) -> None:
    """Its dependency had completed, and that is not on record either."""
    gate = bench.gate("gate")
    saves = job("saves", child("saver.py", "checkpoint", "-"), after=("first",))
    supervisor = bench.start(job("first", WAITS), saves)
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not written")
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    gate.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.stop(supervisor.pid)
    waiting.kill_all([keeper, supervisor.pid])
    for pid in (keeper, supervisor.pid):  # whoever opens it asks for both
        waiting.wait_for_end(pid)
    opener = bench.start()
    report = opener.end(exit_code=0)
    bench.held.wait()
    assert report["statuses"] == {"first": "terminated", "saves": "terminated"}
    results = opener.journal().results()
    assert {name: result["ended"] for name, result in results.items()} == {
        "first": "lost",
        "saves": "in_grace",
    }
    assert (bench.directory / "checkpoint").exists()
    again = bench.start(resume=True)
    bench.said.expect(starting_with="at gate", unless_gone=again.pid)
    gate.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=again.pid)
    again.signal(signal.SIGTERM)
    again.end(exit_code=75)
    assert again.journal().results()["first"]["status"] == "completed"


def test_p9_with_both_killed_a_run_that_was_not_written_yet_is_found_by_its_lock(bench: Bench) -> None:
    """No keeper ever works; the jobs run, and nothing but the workflow is on record when the parent is killed."""
    (bench.directory / "no_keepers").touch()
    supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")), job("sleeps", SLEEPS))
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    groups = {int(line.split()[-1]) for line in ready}
    supervisor.stop(supervisor.pid)
    # Race: a keeper that has just been forked is no helper yet, and would work if it looked for the file after this.
    keepers = [pid for pid in waiting.children_of(supervisor.pid) if pid not in groups]
    for pid in (supervisor.pid, *keepers):
        waiting.kill_all([pid])
        waiting.wait_for_end(pid)
    (bench.directory / "no_keepers").unlink()
    assert [entry["event"] for entry in supervisor.journal().entries] == ["workflow_created"]
    opener = bench.start()
    report = opener.end(exit_code=0)
    bench.held.wait()
    assert report["statuses"] == {"saves": "terminated", "sleeps": "terminated"}
    assert {result["ended"] for result in opener.journal().results().values()} == {"in_grace"}
    assert (bench.directory / "checkpoint").exists()
    assert opener.journal().of("run_started")[0]["pid"] == supervisor.pid
    assert opener.journal().entries[-1]["event"] == "run_ended"


@pytest.mark.usefixtures("patient_reads")
def test_p10_a_run_that_was_not_written_yet_is_found_though_who_took_it_over_was_killed_as_well(
    tmp_path: Path,
) -> None:
    """And though another command took its lock, and could not open the workflow."""
    workflow = workflow_of(job("j", "true"))
    opened = create_workflow(str(tmp_path), lambda new: first_record(workflow, new), "run", lambda text: None)
    files, nobody = opened.files, replace(opened.lock.owner, pid=2**22 + 1)
    opened.lock.release()
    run, _ = acquire(files.lock, nobody, lambda owner: False)
    acquire(files.lock, replace(nobody, command="reset"), lambda owner: False)
    journal_bytes = Path(files.journal).read_bytes()
    with process(run.owner.nonce, tmp_path) as stray:
        Path(files.journal).write_bytes(b"{}\n")
        with pytest.raises(JournalError):
            open_workflow(files, "reset", lambda text: None)
        Path(files.journal).write_bytes(journal_bytes)
        with open_workflow(files, "reset", lambda text: None) as again:
            assert again.state.results[1][1].ended == "in_grace"
        assert stray.wait(waiting.LIMIT) == 3, "it was asked, and left by itself"
    assert os.listdir(files.directory) == ["events.jsonl"]
