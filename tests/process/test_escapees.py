"""What leaves its job's process group is ended with its job, under the same rules; nobody else is touched (P5, P10)."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, Supervisor, child, job, say, workflow_of
from support.ways import WAYS, WIPED, escapes

pytestmark = pytest.mark.process

every_way = pytest.mark.parametrize("way", [*WAYS.values(), *WIPED.values()], ids=[*WAYS, *WIPED])
# A daemon without an environment leaves no trace for the keeper of a killed supervisor: see docs/containment.md.
traced = pytest.mark.parametrize(
    "way", [way for name, way in (WAYS | WIPED).items() if name != "env_i_daemon"], ids=lambda way: way[:30]
)
few_ways = pytest.mark.parametrize("way", [WAYS["setsid"], WAYS["daemon"]], ids=["setsid", "daemon"])
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
each_wiped = pytest.mark.parametrize("way", WIPED.values(), ids=WIPED)


def saver(name: str = "saved", gate: str = "-") -> str:
    return child("saver.py", name, gate)


def ready(bench: Bench, supervisor: Supervisor, count: int = 1) -> list[int]:
    lines = bench.said.expect(count, "ready", unless_gone=supervisor.pid)
    return [int(line.split()[-2]) for line in lines]


# -- a job that ends by itself ------------------------------------------------------------------------------


@each_way
def test_p5_what_left_the_group_is_ended_when_its_job_ends_and_other_jobs_go_on(
    bench: Bench, way: str
) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("starts", f"{escapes(way, saver())} read -r _ <$BENCH/leave"),
        job("next", f"[ -e saved ] && {say('next')}", after=("starts",)),
        job("stays", SLEEPS.replace("ready", "stays")),
        leftover_grace=waiting.LIMIT,
    )
    ready(bench, supervisor)
    bench.said.expect(starting_with="stays", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="saved", unless_gone=supervisor.pid)
    bench.said.expect(starting_with="next", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    result = journal.results()["starts"]
    assert (result["status"], result["ended"], result["return_code"]) == ("completed", "exited", 0)
    assert journal.signals_of("starts") == ["SIGTERM"]
    assert [(entry["code"], entry["job_id"]) for entry in journal.of("warning")] == [("escaped", 1)]
    assert "job 'starts'" in journal.of("warning")[0]["message"]


@few_ways
def test_p5_a_deaf_escapee_is_killed_after_the_grace_of_leftovers(bench: Bench, way: str) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("starts", f"{escapes(way, child('counts.py'))} read -r _ <$BENCH/leave"),
        job("next", say("next"), after=("starts",)),
        job("stays", SLEEPS.replace("ready", "stays")),
        leftover_grace=1000.0,
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    supervisor.let_grace_pass()
    bench.said.expect(starting_with="next", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert supervisor.journal().signals_of("starts") == ["SIGTERM", "SIGKILL"]
    assert not [line for line in bench.said.drain() if "got SIGTERM" in line], "asked once (P6)"


@each_wiped
def test_p5_an_escapee_without_an_environment_is_ended_with_the_only_job_it_can_come_from(
    bench: Bench, way: str
) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("starts", f"{escapes(way, saver())} read -r _ <$BENCH/leave"),
        job("next", f"[ -e saved ] && {say('next')}", after=("starts",)),
        leftover_grace=waiting.LIMIT,
    )
    ready(bench, supervisor)
    leave.put(b"\n")
    bench.said.expect(starting_with="next", unless_gone=supervisor.pid)
    supervisor.end(exit_code=0)
    bench.held.wait()
    assert supervisor.journal().warnings() == ["escaped"]


def test_p5_an_escapee_without_an_environment_goes_with_the_last_job_it_can_come_from(bench: Bench) -> None:
    """Which of the two jobs it was nobody can tell, so it does not end with the first."""
    first, second = bench.gate("first"), bench.gate("second")
    supervisor = bench.start(
        job("other", f"{say('other')} read -r _ <$BENCH/second"),
        job("starts", f"{escapes(WIPED['env_i'], saver())} read -r _ <$BENCH/first"),
        job("next", say("next"), after=("starts",)),
        job("last", f"[ -e saved ] && {say('last')}", after=("other", "next")),
        leftover_grace=waiting.LIMIT,
    )
    ready(bench, supervisor)
    bench.said.expect(starting_with="other", unless_gone=supervisor.pid)
    first.put(b"\n")
    bench.said.expect(starting_with="next", unless_gone=supervisor.pid)
    assert not (bench.directory / "saved").exists()
    assert bench.held.held()
    second.put(b"\n")
    bench.said.expect(starting_with="last", unless_gone=supervisor.pid)
    supervisor.end(exit_code=0)
    bench.held.wait()
    assert supervisor.journal().warnings() == ["escaped"]


# -- a job that is asked to end -----------------------------------------------------------------------------


@every_way
def test_p5_an_escapee_is_asked_with_its_job_and_may_save(bench: Bench, way: str) -> None:
    """The job's shell is gone at once; the job is over when the escapee has saved."""
    leave = bench.gate("leave")
    supervisor = bench.start(job("starts", f"{escapes(way, saver('saved', 'leave'))} exec sleep 1000"))
    ready(bench, supervisor)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="asked", unless_gone=supervisor.pid)
    assert supervisor.journal().of("job_ended") == []
    leave.put(b"x")
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert (bench.directory / "saved").exists()
    result = supervisor.journal().results()["starts"]
    assert (result["status"], result["ended"]) == ("terminated", "in_grace")


@every_way
def test_p5_a_leader_that_saves_and_its_escapee_are_asked_at_the_same_time(bench: Bench, way: str) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(job("starts", f"{escapes(way, saver('b', 'leave'))} exec {saver('a', 'leave')}"))
    ready(bench, supervisor, 2)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(2, "asked", unless_gone=supervisor.pid)
    leave.put(b"xx")
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert {(bench.directory / name).exists() for name in "ab"} == {True}
    assert supervisor.journal().results()["starts"]["ended"] == "in_grace"


@few_ways
def test_p5_a_deaf_escapee_is_killed_at_its_jobs_deadline(bench: Bench, way: str) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job("starts", f"{escapes(way, child('counts.py'))} exec sleep 1000", sigterm_lead_seconds=1000.0)
        )
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="got SIGTERM", unless_gone=supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    assert journal.results()["starts"]["ended"] == "killed"
    assert journal.signals_of("starts") == ["SIGTERM", "SIGKILL"]
    assert bench.said.drain() == [], "asked once (P6)"


@every_way
def test_p5_an_escapee_of_a_job_that_cannot_save_is_killed_at_once(bench: Bench, way: str) -> None:
    supervisor = bench.start(
        job("starts", f"{escapes(way, child('counts.py'))} exec sleep 1000", saves=False)
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert [line for line in bench.said.drain() if "got" in line] == []
    assert supervisor.journal().signals_of("starts") == ["SIGKILL"]


def test_p5_of_many_jobs_all_escapees_are_asked(bench: Bench) -> None:
    """More than are looked at in one turn."""
    supervisor = bench.start(
        *(job(f"j{i}", f"{escapes(WAYS['setsid'], saver(f'saved{i}'))} exec sleep 1000") for i in range(40))
    )
    ready(bench, supervisor, 40)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert {result["ended"] for result in supervisor.journal().results().values()} == {"in_grace"}
    assert all((bench.directory / f"saved{i}").exists() for i in range(40))


# -- the supervisor is killed -------------------------------------------------------------------------------


@traced
def test_p10_an_escapee_may_save_when_the_supervisor_was_killed(bench: Bench, way: str) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(job("starts", f"{escapes(way, saver('saved', 'leave'))} exec sleep 1000"))
    ready(bench, supervisor)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    bench.said.expect(starting_with="asked")
    leave.put(b"x")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert (bench.directory / "saved").exists()
    result = supervisor.journal().results()["starts"]
    assert (result["status"], result["ended"]) == ("terminated", "in_grace")


@few_ways
def test_p10_a_deaf_escapee_does_not_outlive_a_killed_supervisor(bench: Bench, way: str) -> None:
    """Its leader is deaf as well, until the grace is over: then its end is what the keeper wakes up for."""
    leave = bench.gate("leave")
    command = f"trap '' TERM; {escapes(way, child('counts.py'))} read -r _ <$BENCH/leave"
    supervisor = bench.start(job("starts", command, sigterm_lead_seconds=1000.0))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    bench.said.expect(starting_with="got SIGTERM", unless_gone=keeper)
    supervisor.let_grace_pass()
    leave.put(b"\n")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert supervisor.journal().results()["starts"]["ended"] == "killed"
    assert bench.said.drain() == [], "asked once (P6)"


# -- with a cgroup for each job -----------------------------------------------------------------------------


def cgroup_of(supervisor: Supervisor) -> Path:
    """A job may begin before its keeper has written anything."""
    waiting.wait_until(lambda: supervisor.journal().of("run_started"), "the run is not on record")
    return Path(supervisor.journal().of("run_started")[0]["cgroup"])


# A job that makes a cgroup below its own one and goes there.
GOES_BELOW = """
mounted=$(awk '/ - cgroup2 /{print $5; exit}' /proc/self/mountinfo)
below=$mounted$(sed -n s/^0:://p /proc/self/cgroup)/below
mkdir $below && echo $$ >$below/cgroup.procs || exit 9
"""


@pytest.mark.root
@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("goes", ["", GOES_BELOW], ids=["its job's", "one below"])
def test_p5_in_a_cgroup_no_escapee_is_taken_for_another_jobs(bench: Bench, goes: str) -> None:
    """Without one, an escapee that wiped its environment waits for the last job that it can come from."""
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("other", SLEEPS.replace("ready", "other")),
        job("starts", f"{goes}{escapes(WIPED['env_i_daemon'], saver())} read -r _ <$BENCH/leave"),
        job("next", f"[ -e saved ] && {say('next')}", after=("starts",)),
        cgroups=True,
        leftover_grace=waiting.LIMIT,
    )
    ready(bench, supervisor)
    bench.said.expect(starting_with="other", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="next", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert [(entry["code"], entry["job_id"]) for entry in supervisor.journal().of("warning")] == [
        ("escaped", 2)
    ]
    assert not cgroup_of(supervisor).exists()


@pytest.mark.root
@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("deaf", [False, True], ids=["saves", "deaf"])
def test_p10_in_a_cgroup_a_daemon_without_an_environment_is_ended_by_the_keeper(
    bench: Bench, deaf: bool
) -> None:
    program = child("counts.py") if deaf else saver()
    way = escapes(WIPED["env_i_daemon"], program)
    supervisor = bench.start(
        job("starts", f"{way} exec sleep 1000", sigterm_lead_seconds=0.3 if deaf else None), cgroups=True
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper, cgroup = supervisor.keeper(), cgroup_of(supervisor)
    assert cgroup.exists()
    supervisor.signal(signal.SIGKILL)
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert deaf or (bench.directory / "saved").exists()
    assert supervisor.journal().results()["starts"]["ended"] == ("killed" if deaf else "in_grace")
    waiting.wait_until(lambda: not cgroup.exists(), "the cgroup is still there")


@pytest.mark.root
@pytest.mark.usefixtures("needs_cgroups")
def test_p3_a_job_does_not_get_the_cgroup_of_one_whose_end_is_not_on_record(bench: Bench) -> None:
    """The keeper is stopped when the first job ends, so nothing is durable: both are ended, each as itself (P9)."""
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("first", f"{say('first')} read -r _ <$BENCH/leave"),
        job("second", f"{HOLD} {say('second')} exec sleep 1000", after=("first",)),
        cgroups=True,
    )
    bench.said.expect(starting_with="first", unless_gone=supervisor.pid)
    keeper, cgroup = supervisor.keeper(), cgroup_of(supervisor)
    waiting.wait_until(lambda: (cgroup / "1" / "cgroup.procs").read_text(), "it did not come")
    supervisor.stop(keeper)
    leave.put(b"\n")
    bench.said.expect(starting_with="second", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGKILL)
    os.kill(keeper, signal.SIGCONT)
    bench.held.wait()
    waiting.wait_for_end(keeper)
    started = {entry["job_id"]: entry["cgroup"] for entry in supervisor.journal().of("job_started")}
    assert started == {1: "1", 2: "2"}
    results = supervisor.journal().results()
    assert (results["first"]["status"], results["first"]["ended"]) == ("completed", "exited")
    assert (results["second"]["status"], results["second"]["ended"]) == ("terminated", "in_grace")


@pytest.mark.root
@pytest.mark.usefixtures("needs_cgroups")
def test_p5_in_a_cgroup_a_chain_of_forks_that_has_escaped_is_ended_at_once(bench: Bench) -> None:
    """Each generation forks the next one and ends; no list of processes is ever true."""
    runs = "f() { f 9>&9 & }; f"
    supervisor = bench.start(
        job("bomb", f"{HOLD} setsid bash -c '{runs}' & {say('ready')} exec sleep 1000", saves=False),
        cgroups=True,
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()


# -- what is not ours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_p5_two_supervisors_of_one_user_touch_only_their_own(bench: Bench, signum: int) -> None:
    """Both run the same workflow, in directories of their own; another process carries all but the nonce."""
    held = {}
    supervisors = {}
    for name in ("ours", "theirs"):
        directory = bench.directory / name
        directory.mkdir()
        held[name] = waiting.EndOfFile(directory / "held")
        command = (
            f"exec 9>{directory}/held; {escapes(WAYS['daemon'], child('counts.py', name))} exec sleep 1000"
        )
        supervisors[name] = bench.start(job(name, command), output=directory / "out")
        bench.said.expect(starting_with="ready", unless_gone=supervisors[name].pid)
    bystander = subprocess.Popen(
        ["sleep", "1000"],
        start_new_session=True,
        env={
            "TORC_RUN_NONCE": "somebody-elses",
            "TORC_WORKFLOW_ID": "1",
            "TORC_RUN_ID": "1",
            "TORC_JOB_ID": "1",
            "TORC_ATTEMPT_ID": "1",
            "TORC_OUTPUT_DIR": str(bench.directory / "ours" / "out"),
        },
    )
    try:
        keeper = supervisors["ours"].keeper()
        supervisors["ours"].signal(signum)
        supervisors["ours"].signal(signum)
        bench.said.expect(starting_with="got SIGTERM ours")
        waiting.kill_all(daemons(bench, "ours"))  # it is deaf: not to wait for its grace
        held["ours"].wait()
        waiting.wait_for_end(keeper)
        assert held["theirs"].held()
        assert bystander.poll() is None
        supervisors["theirs"].signal(signal.SIGTERM)
        bench.said.expect(starting_with="got SIGTERM theirs")
        waiting.kill_all(daemons(bench, "theirs"))
        supervisors["theirs"].end(exit_code=75)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        for each in held.values():
            each.close()


def daemons(bench: Bench, name: str) -> list[int]:
    return [pid for pid in bench.leftovers() if waiting.command_line(pid).endswith(f"{name}\0".encode())]


def test_p5_what_another_supervisor_inside_of_a_job_sees_to_is_asked_by_that_one_alone(bench: Bench) -> None:
    """Below our job's leader and outside of its group, but with another run's nonce."""
    inner = f"env TORC_RUN_NONCE=inner setsid {child('counts.py', 'inner')} &"
    plain = f"setsid {child('counts.py', 'plain')} &"
    stop, over = bench.gate("stop"), bench.gate("over")
    supervisor = bench.start(
        job(
            "nested",
            f"trap 'kill -USR1 %1' TERM; {inner} {plain} read -r _ <$BENCH/stop; read -r _ <$BENCH/over; kill -KILL %1",
        )
    )
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(starting_with="got SIGTERM plain", unless_gone=supervisor.pid)
    stop.put(b"\n")
    bench.said.expect(starting_with="got SIGUSR1 inner", unless_gone=supervisor.pid)
    over.put(b"\n")
    waiting.kill_all(daemons(bench, "plain"))
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.said.drain() == []


@each_way
def test_p5_control_a_signal_to_the_group_does_not_reach_what_has_escaped(bench: Bench, way: str) -> None:
    leader = subprocess.Popen(
        ["bash", "-c", f"{escapes(way, child('counts.py'))} exec sleep 1000"],
        start_new_session=True,
        cwd=bench.directory,
        env={**os.environ, "BENCH": str(bench.directory), "TORC_TEST_MARK": bench.mark.partition("=")[2]},
    )
    bench.said.expect(starting_with="ready")
    os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
    assert bench.held.held()
    assert bench.said.drain() == []
