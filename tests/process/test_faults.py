"""Supervisors whose own processes are stopped or killed, and file systems that hang or are full (P8, P9, P10, P12)."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.mounts import mounted
from support.supervised import HOLD, SLEEPS, Bench, child, job, say, workflow_of

pytestmark = pytest.mark.process


def pass_gate(name: str) -> str:
    """Shell command: wait for a line at a gate, after saying that one is there."""
    return f"{HOLD} {say('at ' + name)} read -r _ <$BENCH/{name};"


# -- P8: nothing slow is waited for -------------------------------------------------------------------------


def test_p8_a_file_system_that_hangs_at_one_job_delays_no_signal_to_others(bench: Bench) -> None:
    """Opening a FIFO for writing waits for a reader, as an open on a hung file server waits for the server."""
    (bench.output / "job_stdio").mkdir(parents=True)
    os.mkfifo(bench.output / "job_stdio" / "job_wf1_j1_r1_a1.o")
    supervisor = bench.start(
        job("hangs", "exit 0"),
        *(job(f"saver{i}", child("saver.py", f"checkpoint{i}", "-")) for i in range(3)),
    )
    bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(3, "saved", unless_gone=supervisor.pid)
    supervisor.end(exit_code=75)
    results = supervisor.journal().results()
    assert {result["status"] for result in results.values()} == {"terminated"}
    assert len(results) == 4


def test_p8_a_stopped_keeper_delays_no_signal(bench: Bench) -> None:
    supervisor = bench.start(*(job(f"saver{i}", child("saver.py", f"checkpoint{i}", "-")) for i in range(3)))
    bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(3, "saved", unless_gone=supervisor.pid)
    bench.held.wait()
    os.kill(keeper, signal.SIGCONT)
    supervisor.end(exit_code=75)
    results = supervisor.journal().results()
    assert [result["ended"] for result in results.values()] == ["in_grace"] * 3


def test_p8_thousands_of_records_wait_for_a_stopped_keeper(bench: Bench) -> None:
    gate = bench.gate("gate")
    many = [job(f"j{i}", "exit 0", after=("first",), stdio="none") for i in range(1500)]
    last = job("last", say("all done"), after=tuple(each.name for each in many))
    supervisor = bench.start(job("first", pass_gate("gate")), *many, last, max_parallel_jobs=16)
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    gate.put(b"\n")
    bench.said.expect(starting_with="all done", unless_gone=supervisor.pid)
    os.kill(keeper, signal.SIGCONT)
    report = supervisor.end(exit_code=0)
    assert report["unconfirmed"] == 0
    results = supervisor.journal().results()
    assert len(results) == 1502
    assert {result["status"] for result in results.values()} == {"completed"}


def test_p8_a_keeper_that_nobody_continues_is_continued_at_the_end(bench: Bench) -> None:
    supervisor = bench.start(job("sleeps", SLEEPS))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.stop(supervisor.keeper())
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert supervisor.journal().results()["sleeps"]["status"] == "terminated"


def full_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write


def test_p8_an_stderr_that_nobody_reads_delays_nothing(bench: Bench) -> None:
    read, write = full_pipe()
    supervisor = bench.start(
        job("saver", child("saver.py", "checkpoint", "-")), job("leaves", "sleep 1000 & exit 0"), stderr=write
    )
    os.close(write)
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(1, "saved", unless_gone=supervisor.pid)
    supervisor.end(exit_code=75)
    assert supervisor.journal().results()["saver"]["ended"] == "in_grace"
    assert bench.leftovers() == []
    os.close(read)


# -- P9: one result for each attempt ------------------------------------------------------------------------


def test_p9_a_thousand_short_jobs_have_one_result_each(bench: Bench) -> None:
    supervisor = bench.start(*(job(f"j{i}", "true", stdio="none") for i in range(1000)), max_parallel_jobs=16)
    report = supervisor.end(exit_code=0)
    assert report["jobs_by_status"]["completed"] == 1000
    assert len(supervisor.journal().results()) == 1000
    assert len(supervisor.journal().of("job_ended")) == 1000


def test_p9_keepers_are_killed_one_after_another(bench: Bench) -> None:
    """Every 20th job stops at a gate until the keeper of that moment has been killed."""
    gate = bench.gate("gate")
    jobs = []
    for i in range(120):
        after = (f"j{i - 20}",) if i >= 20 else ()
        jobs.append(job(f"j{i}", pass_gate("gate") if i % 20 == 19 else "exit 0", after=after))
    supervisor = bench.start(*jobs)
    killed: set[int] = set()
    for _ in range(6):
        bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
        waiting.wait_until(lambda: set(supervisor.helpers()) - killed, "no new keeper")
        keeper = (set(supervisor.helpers()) - killed).pop()
        killed.add(keeper)
        os.kill(keeper, signal.SIGKILL)
        # The supervisor has seen it when it has another one: only then is there something to write again.
        waiting.wait_until(lambda: set(supervisor.helpers()) - killed, "no new keeper")
        gate.put(b"\n")
    supervisor.end(exit_code=0)
    journal = supervisor.journal()
    assert len(journal.results()) == 120
    assert journal.warnings().count("keeper_died") == 6
    snapshot = (bench.output / "workflows" / "1" / "status.json").read_bytes()
    assert b'"completed":120' in snapshot, "the last keeper's copy of the state is right as well"


def test_p9_keeper_and_sampler_are_killed_at_once(bench: Bench) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        workflow=workflow_of(
            *(job(f"j{i}", pass_gate("leave")) for i in range(3)),
            *(job(f"k{i}", "exit 0", after=("j0", "j1", "j2")) for i in range(20)),
            sample=0.01,
        )
    )
    bench.said.expect(3, "at leave", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: len(supervisor.helpers()) == 2, "no sampler")
    killed = supervisor.helpers()
    waiting.kill_all(killed)
    # Both deaths have been seen: one that is seen when the run is over is no warning any more.
    waiting.wait_until(lambda: len(set(supervisor.helpers()) - set(killed)) == 2, "they are not replaced")
    leave.put(b"\n\n\n")
    supervisor.end(exit_code=0)
    journal = supervisor.journal()
    assert len(journal.results()) == 23
    assert sorted(journal.warnings()) == ["keeper_died", "sampler_died"]


def test_p9_keepers_that_cannot_even_begin_are_tried_again_and_jobs_go_on(bench: Bench) -> None:
    """A directory stands where the journal should be, for a while."""
    first, second = bench.gate("first"), bench.gate("second")
    supervisor = bench.start(
        job("a", pass_gate("first")),
        job("b", pass_gate("second"), after=("a",)),
        job("c", "exit 0", after=("b",)),
    )
    bench.said.expect(starting_with="at first", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    journal = bench.output / "workflows" / "1" / "events.jsonl"
    journal.rename(journal.with_name("away"))
    journal.mkdir()
    os.kill(keeper, signal.SIGKILL)
    waiting.wait_until(lambda: "Is a directory" in supervisor.said(), "no new keeper has tried")
    first.put(b"\n")
    bench.said.expect(starting_with="at second", unless_gone=supervisor.pid)
    journal.rmdir()
    journal.with_name("away").rename(journal)
    second.put(b"\n")
    supervisor.end(exit_code=0)
    results = supervisor.journal().results()
    assert {result["status"] for result in results.values()} == {"completed"}
    assert len(results) == 3


def test_p9_a_keeper_that_dies_while_it_is_told_to_leave_is_replaced(bench: Bench) -> None:
    """It is stopped, told to leave by a parent whose job is over, and killed."""
    supervisor = bench.start(job("sleeps", SLEEPS))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    supervisor.signal(signal.SIGTERM)
    bench.held.wait()
    os.kill(keeper, signal.SIGKILL)
    supervisor.end(exit_code=75)
    assert supervisor.journal().results()["sleeps"]["status"] == "terminated"
    assert supervisor.journal().entries[-1]["event"] == "run_ended"


def niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_p10_a_sampler_that_is_stopped_does_not_stay_behind(bench: Bench, signum: int) -> None:
    supervisor = bench.start(workflow=workflow_of(job("sleeps", SLEEPS), sample=0.01))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: len(supervisor.helpers()) == 2, "no sampler")
    _, sampler = supervisor.helpers()
    # It has asked to die with its parent before it is nice, and where it is stopped before, it stays.
    waiting.wait_until(lambda: niceness(sampler) > niceness(supervisor.pid), "it does not begin")
    supervisor.stop(sampler)
    supervisor.signal(signum)
    waiting.wait_for_end(supervisor.pid)
    waiting.wait_for_end(sampler)
    bench.held.wait()


# -- P10: no job outlives its supervisor --------------------------------------------------------------------


def test_p10_the_keeper_ends_and_records_the_jobs_of_a_killed_parent(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job("saves", child("saver.py", "checkpoint", "-")),
            job("deaf", child("counts.py", "deaf"), sigterm_lead_seconds=0.3),
            job("plain", child("counts.py", "plain"), saves=False),
        )
    )
    bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    bench.said.expect(starting_with="saved")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert (bench.directory / "checkpoint").exists()
    journal = supervisor.journal()
    results = journal.results()
    assert {result["status"] for result in results.values()} == {"terminated"}
    assert {name: result["ended"] for name, result in results.items()} == {
        "saves": "in_grace",
        "deaf": "killed",
        "plain": "killed",
    }
    assert {result["why"] for result in results.values()} == {"supervisor_died"}
    assert journal.entries[-1]["event"] == "run_ended"
    assert not (bench.output / "workflows" / "1" / "lock").exists()
    assert [line for line in bench.said.drain() if "plain" in line] == [], "it cannot save: no SIGTERM"


@pytest.mark.parametrize("started", [1, 2, 5, 10, 20, 40])
def test_p10_no_job_of_a_burst_of_starts_outlives_a_killed_parent(bench: Bench, started: int) -> None:
    """The parent dies in the middle of a spawn, most of the times: nobody was told of that job."""
    supervisor = bench.start(*(job(f"j{i}", SLEEPS) for i in range(100)))
    bench.said.expect(started, "ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    waiting.wait_for_end(keeper)
    waiting.wait_until(lambda: not bench.leftovers(), f"they outlived it: {bench.leftovers()}")
    supervisor.journal().results()


def test_p10_a_daemon_does_not_outlive_a_killed_parent(bench: Bench) -> None:
    supervisor = bench.start(
        job("starts", f"{HOLD} setsid sh -c '{say('daemon')} sleep 1000; true' & sleep 1000")
    )
    bench.said.expect(starting_with="daemon", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGKILL)
    bench.held.wait()


def test_p10_control_with_both_killed_the_jobs_go_on_until_the_next_open(bench: Bench) -> None:
    supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")), job("gone", SLEEPS))
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    gone = next(int(line.split()[1]) for line in ready if len(line.split()) == 2)
    keeper = supervisor.keeper()
    # Both jobs are in the journal before their keeper dies; what it had not written is not known to have begun.
    # Nor does it come there once the supervisor has stopped, which may not have told its keeper yet.
    waiting.wait_until(lambda: len(supervisor.journal().of("job_started")) == 2, "not written")
    supervisor.stop(supervisor.pid)
    supervisor.stop(keeper)
    waiting.kill_all([keeper, supervisor.pid])
    waiting.wait_for_end(keeper)
    waiting.wait_for_end(supervisor.pid)  # or the lock's owner is alive for who comes next
    assert bench.held.held(), "nobody is left to end the jobs"
    waiting.kill_all([gone])
    waiting.wait_for_end(gone)
    opener = bench.start()
    report = opener.end(exit_code=0)
    assert report["statuses"] == {"saves": "terminated", "gone": "terminated"}
    bench.held.wait()
    results = opener.journal().results()
    assert (results["gone"]["ended"], results["gone"].get("return_code")) == ("lost", None)
    assert results["saves"]["ended"] == "in_grace"
    assert (bench.directory / "checkpoint").exists()


def test_p10_a_workflow_is_not_taken_over_while_the_keeper_of_a_killed_parent_still_writes(
    bench: Bench,
) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("saves", child("saver.py", "checkpoint", "leave"), sigterm_lead_seconds=1000.0)
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    lock = bench.output / "workflows" / "1" / "lock"
    # It asks jobs without waiting for the disk: one that has not signed by then is not known to live.
    waiting.wait_until(lambda: f'"keeper_pid":{keeper},' in lock.read_text(), "the lock is not signed")
    supervisor.signal(signal.SIGKILL)
    bench.said.expect(starting_with="asked")
    assert f'"keeper_pid":{keeper},' in lock.read_text()
    refused = bench.start()
    refused.end(exit_code=2)
    assert f"its keeper {keeper}" in refused.said()
    leave.put(b"x")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    opener = bench.start()
    opener.end(exit_code=0)
    assert opener.journal().results()["saves"]["ended"] == "in_grace"


def test_a_terminated_workflow_is_resumed(bench: Bench) -> None:
    supervisor = bench.start(
        job("long", f"if [ -e saved ]; then exit 0; fi; {child('saver.py', 'saved', '-')}"),
        job("after", "true", after=("long",)),
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    report = supervisor.end(exit_code=75)
    assert report["jobs_by_status"]["blocked"] == 1
    again = bench.start(resume=True)
    report = again.end(exit_code=0)
    assert report["jobs_by_status"]["completed"] == 2
    again.journal().results()


# -- a full disk --------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "torc-test")


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return


@pytest.mark.root
def test_p9_a_full_disk_is_said_once_and_everything_is_written_when_there_is_room(
    tiny_disk: Path, bench: Bench
) -> None:
    gate, end = bench.gate("gate"), bench.gate("end")
    many = [job(f"j{i}", "exit 0", after=("first",), stdio="none") for i in range(100)]
    last = job("last", pass_gate("end"), after=tuple(each.name for each in many), stdio="none")
    read, write = os.pipe()
    supervisor = bench.start(
        job("first", pass_gate("gate"), stdio="none"), *many, last, output=tiny_disk / "out", stderr=write
    )
    os.close(write)
    bench.said.expect(starting_with="at gate", unless_gone=supervisor.pid)
    # Nothing more is written until the gate: a snapshot that takes the place of another one makes room for the journal.
    snapshot = tiny_disk / "out" / "workflows" / "1" / "status.json"
    waiting.wait_until(lambda: snapshot.exists() and b'"running":1' in snapshot.read_bytes(), "no snapshot")
    fill(tiny_disk / "ballast")
    gate.put(b"\n")
    bench.said.expect(starting_with="at end", unless_gone=supervisor.pid)  # jobs go on
    with open(read, encoding="utf-8") as stderr:
        said: list[str] = []
        for line in stderr:
            said += [line] if "the disk is full" in line else []
            if said and "events.jsonl" in said[-1]:  # a snapshot may be the first that finds no room
                break
        (tiny_disk / "ballast").unlink()
        for line in stderr:
            said += [line] if "the disk is full" in line else []
            if "everything is written again" in line:
                break
        end.put(b"\n")
        supervisor.end(exit_code=0)
        said += [line for line in stderr if "the disk is full" in line]
    assert len(said) == len({line.split(":")[2] for line in said}), "once for each file"
    journal = supervisor.journal()
    assert len(journal.results()) == 102
    codes = journal.warnings()
    assert codes.count("journal_not_written") == codes.count("journal_written_again") == 1


@pytest.mark.root
def test_a_snapshot_that_cannot_be_written_is_said_once(tiny_disk: Path, bench: Bench) -> None:
    """Room for the journal, none for status.json: its place is taken by a directory."""
    step = bench.gate("step")
    jobs = [job(f"j{i}", pass_gate("step"), after=(f"j{i - 1}",) if i else ()) for i in range(4)]
    supervisor = bench.start(*jobs)
    bench.said.expect(starting_with="at step", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)  # or it puts a new one there between the two
    (bench.output / "workflows" / "1" / "status.json").unlink(missing_ok=True)
    (bench.output / "workflows" / "1" / "status.json").mkdir()
    os.kill(keeper, signal.SIGCONT)
    for _ in range(3):
        step.put(b"\n")  # else there may be nothing new to write
        bench.said.expect(starting_with="at step", unless_gone=supervisor.pid)
        waiting.wait_until(lambda: "status.json" in supervisor.said(), "not said")
    step.put(b"\n")
    supervisor.end(exit_code=0)
    assert supervisor.said().count("status.json") == 1
    assert supervisor.journal().warnings() == ["snapshot_not_written"]


def test_pipes_of_the_supervisor_are_not_inherited_by_jobs(bench: Bench) -> None:
    """Slurm, MPI and shells leave descriptors open; a job that held one would keep its reader waiting."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETFD, 0)
    supervisor = bench.start(job("lists", f"exec {child('descriptors.py')}"))
    os.close(write)
    supervisor.end(exit_code=0)
    assert (bench.output / "job_stdio" / "job_wf1_j1_r1_a1.o").read_text() == "0 1 2\n"
    os.close(read)
