"""Termination as jobs and users see it: signals, grace, what is recorded (DESIGN.md section 4; P2, P4, P6, P7, P14)."""

from __future__ import annotations

import os
import signal

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, Supervisor, child, job, needs, say, workflow_of

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"{child('saver.py', 'checkpoint', 'leave')}; echo done", id="shell and python"),
        pytest.param(f"{child('saver.py', 'checkpoint', 'leave')} | tee log", id="pipeline"),
        pytest.param(f"true && ( {child('saver.py', 'checkpoint', 'leave')}; echo done )", id="subshell"),
    ],
)
def test_p4_the_grace_goes_on_while_a_child_of_a_dead_shell_saves(bench: Bench, command: str) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(job("saver", command))
    pgid = int(bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)[0].split()[2])
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="asked", unless_gone=supervisor.pid)
    # The shell dies of the signal at once, while its child has not saved yet: here is what P4 is about.
    waiting.wait_for_state(pgid, "Z")
    assert supervisor.running
    assert not (bench.directory / "checkpoint").exists()
    leave.put(b"x")
    supervisor.end(exit_code=75)
    assert (bench.directory / "checkpoint").read_text() == "saved\n"
    result = supervisor.journal().results()["saver"]
    assert (result["status"], result["ended"], result["signal"]) == ("terminated", "in_grace", "SIGTERM")
    assert supervisor.journal().signals_of("saver") == ["SIGTERM"]
    bench.held.wait()


def test_p2_every_process_of_a_job_gets_the_signal(bench: Bench) -> None:
    count = child("counts.py")
    supervisor = bench.start(job("tree", f"{count} a & ({count} b & {count} c; true); wait"))
    ready = bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    assert sorted(bench.said.expect(3, "got", unless_gone=supervisor.pid)) == [
        f"got SIGTERM {name}" for name in "abc"
    ]
    waiting.kill_all(int(line.split()[2]) for line in ready)  # deaf: not to wait for their grace
    supervisor.end(exit_code=75)
    bench.held.wait()


def test_p2_control_with_scope_leader_only_the_leader_gets_it(bench: Bench) -> None:
    count = child("counts.py")
    command = f"{count} member & exec {count} leader"
    supervisor = bench.start(job("tree", command, signal_scope="leader", sigterm_lead_seconds=100_000.0))
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    assert bench.said.expect(1, "got", unless_gone=supervisor.pid) == ["got SIGTERM leader"]
    kill_by_interrupts(supervisor)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.said.drain() == []
    assert supervisor.journal().results()["tree"]["ended"] == "killed"


def kill_by_interrupts(supervisor: Supervisor) -> None:
    """End a run that is ending: a second Ctrl-C counts when it comes 0.2 s after the first, as it counts them."""

    def interrupt() -> bool:
        supervisor.signal(signal.SIGINT)
        return not supervisor.running

    waiting.wait_until(interrupt, "it does not end")


@pytest.mark.parametrize(("time_limit", "return_code"), [(None, 137), (100_000.0, 152)])
def test_p6_a_deaf_job_is_killed_at_its_deadline_and_asked_once(
    bench: Bench, time_limit: float | None, return_code: int
) -> None:
    supervisor = bench.start(
        job("deaf", child("counts.py", "deaf"), sigterm_lead_seconds=1000.0), time_limit=time_limit
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    for _ in range(5):
        supervisor.signal(signal.SIGTERM)
    waiting.wait_until(lambda: len(supervisor.journal().of("signal_received")) > 1, "it is not told of")
    supervisor.let_grace_pass()
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.said.drain() == [], "the job got its signal once"
    journal = supervisor.journal()
    result = journal.results()["deaf"]
    assert (result["status"], result["ended"], result["return_code"], result["signal"]) == (
        "terminated",
        "killed",
        return_code,
        "SIGKILL",
    )
    assert journal.signals_of("deaf") == ["SIGTERM", "SIGKILL"]
    assert len(journal.of("termination_started")) == 1


def test_p14_a_stopped_job_still_saves(bench: Bench) -> None:
    supervisor = bench.start(job("stopped", child("saver.py", "checkpoint", "-")))
    pid = int(bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)[0].split()[1])
    os.kill(pid, signal.SIGSTOP)
    waiting.wait_for_state(pid, "T")
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert (bench.directory / "checkpoint").exists()
    assert supervisor.journal().results()["stopped"]["ended"] == "in_grace"


def test_a_job_that_cannot_save_is_killed_at_once(bench: Bench) -> None:
    supervisor = bench.start(job("plain", child("counts.py"), saves=False))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.said.drain() == []
    journal = supervisor.journal()
    result = journal.results()["plain"]
    assert (result["status"], result["ended"], result["return_code"]) == ("terminated", "killed", 137)
    assert journal.signals_of("plain") == ["SIGKILL"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_each_signal_that_slurm_may_send_ends_the_run_gracefully(bench: Bench, name: str) -> None:
    supervisor = bench.start(job("saver", child("saver.py", "checkpoint", "-")))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.Signals[name])
    report = supervisor.end(exit_code=75)
    assert report["state"] == "terminated"
    journal = supervisor.journal()
    assert [e["signal"] for e in journal.of("signal_received")] == [name]
    assert journal.results()["saver"]["status"] == "terminated"
    assert (bench.directory / "checkpoint").exists()


def test_a_second_sigint_kills_at_once(bench: Bench) -> None:
    """The long grace never passes: only the second interrupt can end this run within the limit of the wait.

    Two interrupts within 0.2 s count as one Ctrl-C that came twice; the end of a job with a grace of 0.5 s says that
    so much time has passed.
    """
    supervisor = bench.start(
        job("deaf", child("counts.py", "deaf"), sigterm_lead_seconds=100_000.0),
        job("clock", child("counts.py", "clock"), sigterm_lead_seconds=0.5),
    )
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    clock = next(int(line.split()[2]) for line in ready if "clock" in line)
    supervisor.signal(signal.SIGINT)
    waiting.wait_for_end(clock)
    assert supervisor.running
    supervisor.signal(signal.SIGINT)
    supervisor.end(exit_code=75)
    assert "killed at once" in supervisor.said()
    bench.held.wait()
    result = supervisor.journal().results()["deaf"]
    assert (result["status"], result["ended"], result["return_code"]) == ("terminated", "killed", 137)


def test_termination_signal_of_a_job(bench: Bench) -> None:
    supervisor = bench.start(
        job("usr1", child("saver.py", "one", "-", "SIGUSR1"), termination_signal="SIGUSR1"),
        job("int", child("saver.py", "two", "-", "SIGINT"), termination_signal="SIGINT"),
    )
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    journal = supervisor.journal()
    assert journal.signals_of("usr1") == ["SIGUSR1"]
    assert journal.signals_of("int") == ["SIGINT"]
    assert {result["ended"] for result in journal.results().values()} == {"in_grace"}


def test_p7_of_a_burst_of_starts_all_are_signalled_and_nothing_starts_afterwards(bench: Bench) -> None:
    supervisor = bench.start(*(job(f"j{i}", SLEEPS) for i in range(400)))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    report = supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    events = [entry["event"] for entry in journal.entries]
    assert "job_started" not in events[events.index("termination_started") :]
    results = journal.results()
    assert {result["status"] for result in results.values()} == {"terminated"}
    assert all(journal.signals_of(name) == ["SIGTERM"] for name in results)
    assert report["jobs_by_status"]["ready"] == 400 - len(results)


def test_300_jobs_are_ended_by_one_signal(bench: Bench) -> None:
    supervisor = bench.start(*(job(f"j{i}", SLEEPS) for i in range(300)))
    bench.said.expect(300, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    report = supervisor.end(exit_code=75)
    bench.held.wait()
    assert report["jobs_by_status"]["terminated"] == 300
    results = supervisor.journal().results()
    assert len(results) == 300
    assert {(r["status"], r["ended"], r["return_code"]) for r in results.values()} == {
        ("terminated", "in_grace", 143)
    }


def test_an_exit_that_came_before_the_signal_keeps_its_own_status(bench: Bench) -> None:
    """The supervisor is stopped, so that it sees the exit and the signal in one turn."""
    leave = bench.gate("leave")
    finishing = f"{HOLD} {say('ready $$')} read -r _ <$BENCH/leave"
    supervisor = bench.start(job("finishing", finishing), job("long", SLEEPS))
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.stop(supervisor.pid)
    leave.put(b"\n")
    pids = [int(line.split()[1]) for line in ready]
    waiting.wait_until(lambda: "Z" in [waiting.state_of(pid) for pid in pids], "no job ended")
    supervisor.signal(signal.SIGTERM)
    supervisor.signal(signal.SIGCONT)
    supervisor.end(exit_code=75)
    results = supervisor.journal().results()
    assert (results["finishing"]["status"], results["finishing"]["ended"]) == ("completed", "exited")
    assert results["long"]["status"] == "terminated"


def test_what_a_job_leaves_behind_is_ended_with_a_warning(bench: Bench) -> None:
    supervisor = bench.start(job("leaves", f"{HOLD} sleep 1000 & {say('ready $!')} exit 3"))
    supervisor.end(exit_code=1)
    bench.held.wait()
    journal = supervisor.journal()
    result = journal.results()["leaves"]
    assert (result["status"], result["ended"], result["return_code"], result["leftovers"]) == (
        "failed",
        "exited",
        3,
        1,
    )
    assert journal.warnings() == ["leftovers"]


def test_a_deaf_leftover_is_killed(bench: Bench) -> None:
    command = f"{child('counts.py')} & read -r _ <$BENCH/leave"
    leave = bench.gate("leave")
    supervisor = bench.start(job("leaves", command), leftover_grace=1000.0)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.end(exit_code=0)
    bench.held.wait()
    assert supervisor.journal().signals_of("leaves") == ["SIGTERM", "SIGKILL"]


def test_a_member_that_is_not_our_child_keeps_its_group_until_it_ends(bench: Bench) -> None:
    """The job's leader exits; what is left of its group is the child of a process that left it with setsid."""
    leave = bench.gate("leave")
    supervisor = bench.start(job("odd", child("stranger.py", "leave")), leftover_grace=10_000.0)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    leave.put(b"x")
    supervisor.end(exit_code=0)
    bench.held.wait()
    result = supervisor.journal().results()["odd"]
    assert (result["status"], result["leftovers"]) == ("completed", 1)
    assert supervisor.journal().signals_of("odd") == ["SIGTERM"]


def test_runtime_limit(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job("saves", child("saver.py", "checkpoint", "-"), requirements=needs(runtime_seconds=0.2)),
            job("plain", SLEEPS, saves=False, requirements=needs(runtime_seconds=0.3)),
        )
    )
    supervisor.end(exit_code=75)
    assert bench.leftovers() == []  # (either may be killed before it has opened a pipe)
    results = supervisor.journal().results()
    plain = results["plain"]
    assert (plain["status"], plain["why"], plain["ended"], plain["return_code"]) == (
        "terminated",
        "runtime_limit",
        "killed",
        152,
    )
    assert (results["saves"]["status"], results["saves"]["why"]) == ("terminated", "runtime_limit")


def test_a_time_limit_acts_by_itself(bench: Bench) -> None:
    """The time runs from the start, so nobody waits here until a job is ready; only a shell has to be in time."""
    deaf = f"trap '' TERM; {HOLD} while :; do sleep 1000; done"
    supervisor = bench.start(
        workflow=workflow_of(
            job("saves", child("saver.py", "checkpoint", "-"), sigterm_lead_seconds=6.0),
            job("deaf", deaf, sigterm_lead_seconds=0.2),
            job("later", "true", after=("saves",)),
            sigkill_headroom_seconds=0.2,
        ),
        time_limit=12.0,
    )
    report = supervisor.end(exit_code=75)
    bench.held.wait()
    assert report["jobs_by_status"]["blocked"] == 1
    journal = supervisor.journal()
    results = journal.results()
    assert (results["saves"]["ended"], results["saves"]["why"]) == ("in_grace", "wall_time")
    assert (results["deaf"]["ended"], results["deaf"]["return_code"]) == ("killed", 152)
    assert journal.of("run_started")[0]["end_time"].endswith("Z")


def test_checkpoint_saved_is_told_apart(bench: Bench) -> None:
    (bench.directory / "untouched").write_text("old")
    supervisor = bench.start(
        job("saves", child("saver.py", "checkpoint", "-"), checkpoint="checkpoint"),
        job("forgets", SLEEPS, checkpoint="untouched"),
        job("never", SLEEPS, checkpoint="nothing"),
    )
    bench.said.expect(3, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    results = supervisor.journal().results()
    saved = {name: result["checkpoint_saved"] for name, result in results.items()}
    assert saved == {"saves": True, "forgets": False, "never": False}


def test_p5_a_daemon_that_left_its_jobs_group_does_not_outlive_the_run(bench: Bench) -> None:
    """Two generations: the daemon and its own child."""
    supervisor = bench.start(
        job("starts", f"{HOLD} setsid sh -c '{say('daemon')} sleep 1000; true' & sleep 1000")
    )
    bench.said.expect(starting_with="daemon", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert set(supervisor.journal().warnings()) <= {"escaped"}, "where it has outlived the job's shell"
    assert supervisor.journal().entries[-1]["event"] == "run_ended"
