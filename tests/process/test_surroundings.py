"""What a supervisor may be given: far deadlines, odd masks and limits, and children that are not its own."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from support import waiting
from support.supervised import HOLD, Bench, child, job, needs, say, workflow_of

pytestmark = pytest.mark.process


# -- P12: no deadline is too far away ------------------------------------------------------------------------------

FAR = [
    pytest.param({"requirements": needs(runtime_seconds=30 * 86400.0)}, {}, id="runtime P30D"),
    pytest.param({}, {"time_limit": 1_000_000 * 3600.0}, id="time limit of 1,000,000 h"),
]


@pytest.mark.parametrize(("fields", "options"), FAR)
def test_p12_a_deadline_may_be_months_away(
    bench: Bench, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    """epoll and poll take at most 24.8 days."""
    leave = bench.gate("leave")
    waits = f"{HOLD} {say('ready')} read -r _ <$BENCH/leave"
    supervisor = bench.start(job("waits", waits, **fields), **options)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    leave.put(b"\n")
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["waits"]["status"] == "completed"


@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p12_a_grace_may_be_months_long(bench: Bench, killed: bool) -> None:
    leave = bench.gate("leave")
    saver = job("saver", child("saver.py", "checkpoint", "leave"))
    supervisor = bench.start(workflow=workflow_of(saver, grace=3_000_000.0))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    bench.said.expect(starting_with="asked", unless_gone=keeper)
    leave.put(b"x")
    bench.held.wait()
    waiting.wait_for_end(keeper)
    assert supervisor.journal().results()["saver"]["ended"] == "in_grace"


# -- P1: signals ---------------------------------------------------------------------------------------------------


def test_p1_a_supervisor_that_was_started_with_its_signals_blocked(bench: Bench) -> None:
    """As a wrapper does that blocks them around its own fork, or a launcher that takes them with sigwait."""
    leave = bench.gate("leave")
    waits = f"{HOLD} {say('waits')} read -r _ <$BENCH/leave"
    jobs = (job("waits", waits), job("saves", child("saver.py", "checkpoint", "-"), after=("waits",)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        supervisor = bench.start(*jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    bench.said.expect(starting_with="waits", unless_gone=supervisor.pid)
    leave.put(b"\n")
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert {r["status"] for r in supervisor.journal().results().values()} == {"completed", "terminated"}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_p1_a_signal_that_comes_before_the_loop_is_not_lost(bench: Bench, signum: signal.Signals) -> None:
    supervisor = bench.start(job("first", "touch started"), interrupt=signum)
    assert supervisor.end(exit_code=75)["state"] == "terminated"
    assert supervisor.journal().results() == {}
    assert not (bench.directory / "started").exists()
    assert "Traceback" not in supervisor.log.read_text()


def test_p10_a_terminals_ctrl_backslash_reaches_all_of_us_and_the_keeper_ends_the_jobs(bench: Bench) -> None:
    """SIGQUIT to the whole process group of the supervisor: it dies, its helpers do not."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell's "&" has it ignored
    try:
        supervisor = bench.start(job("saves", child("saver.py", "checkpoint", "-")), before="ulimit -c 0")
    finally:
        signal.signal(signal.SIGQUIT, before)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    os.killpg(supervisor.pid, signal.SIGQUIT)
    bench.said.expect(starting_with="saved", unless_gone=keeper)
    waiting.wait_for_end(keeper)
    assert supervisor.end(exit_code=-signal.SIGQUIT) == {}
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"


# -- P5: other people's processes ----------------------------------------------------------------------------------


def test_p5_what_a_batch_script_has_started_before_us_is_not_ours_to_end(bench: Bench) -> None:
    """After ``exec`` its background processes are our children, and those of a subshell that ends come to us, too."""
    quit_, leave = bench.gate("quit"), bench.gate("leave")
    supervisor = bench.start(
        job("waits", f"{HOLD} {say('waits')} read -r _ <$BENCH/leave"),
        before="say() { echo batch $! >$BENCH/said; }\n"
        "sleep 1000 & say\n"
        "setsid sleep 1000 & say\n"
        "(sleep 1000 & say; read -r _ <$BENCH/quit; sleep 1000 & say) &\n",
    )
    pids = bench.said.expect(3, "batch", unless_gone=supervisor.pid)
    bench.said.expect(starting_with="waits", unless_gone=supervisor.pid)
    quit_.put(b"\n")
    pids += bench.said.expect(1, "batch", unless_gone=supervisor.pid)
    orphan = int(pids[-1].split()[1])
    waiting.wait_until(lambda: orphan in waiting.children_of(supervisor.pid), "it did not come to us")
    leave.put(b"\n")
    assert supervisor.end_alone() == 0
    for line in pids:
        waiting.wait_for_state(int(line.split()[1]), "S")  # the last one may be on its way to its sleep
    assert supervisor.journal().warnings() == []


def test_p5_a_daemon_that_left_its_jobs_group_may_still_save(bench: Bench) -> None:
    saver = child("saver.py", "checkpoint", "-")
    leave = bench.gate("leave")
    command = f"setsid {saver} & read -r _ <$BENCH/leave"
    supervisor = bench.start(job("starts", command), leftover_grace=10_000.0)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    leave.put(b"\n")
    supervisor.end(exit_code=0)
    bench.held.wait()
    assert (bench.directory / "checkpoint").read_text() == "saved\n"
    assert supervisor.journal().warnings() == ["escaped"]


# -- P11: descriptors ----------------------------------------------------------------------------------------------


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_p11_the_limit_on_open_files_is_raised_for_us_and_not_for_jobs(bench: Bench) -> None:
    """Programs that use select(2) break on descriptors above 1023."""
    leave = bench.gate("leave")
    supervisor = bench.start(
        job("shows", f"ulimit -Sn; ulimit -Hn; {say('shown')} read -r _ <$BENCH/leave"),
        before="ulimit -Sn 300; ulimit -Hn 900",
    )
    bench.said.expect(starting_with="shown", unless_gone=supervisor.pid)
    assert soft_limit(supervisor.pid) == 900
    leave.put(b"\n")
    supervisor.end(exit_code=0)
    assert (bench.output / "job_stdio" / "job_wf1_j1_r1_a1.o").read_text() == "300\n900\n"


def test_p11_a_supervisor_without_descriptors_waits_until_it_has_some(bench: Bench) -> None:
    leave = bench.gate("leave")
    supervisor = bench.start(job("waits", f"{HOLD} {say('ready')} read -r _ <$BENCH/leave"))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.keeper()
    limits = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    leave.put(b"\n")
    bench.held.wait()
    began = switches(supervisor.pid)
    waiting.wait_until(lambda: switches(supervisor.pid) > began + 5 or not supervisor.running, "it sleeps")
    assert supervisor.running
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, limits)
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["waits"]["status"] == "completed"


def switches(pid: int) -> int:
    """How often it has waited for something."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(next(line for line in text.splitlines() if line.startswith("voluntary")).split()[1])


# -- the sampler ---------------------------------------------------------------------------------------------------


def test_a_sampler_that_died_is_replaced_and_told_of_the_jobs_that_run(bench: Bench) -> None:
    leave = bench.gate("leave")
    greedy = f"{HOLD} {say('waits')} read -r _ <$BENCH/leave; {child('allocates.py', '200')}"
    needed = needs(memory_bytes=64 << 20, memory_stated=True)
    supervisor = bench.start(workflow=workflow_of(job("greedy", greedy, requirements=needed), sample=0.05))
    bench.said.expect(starting_with="waits", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: len(supervisor.helpers()) == 2, "no sampler")
    keeper, sampler = supervisor.helpers()
    waiting.kill_all([sampler])
    waiting.wait_until(lambda: set(supervisor.helpers()) - {keeper, sampler}, "no new sampler")
    leave.put(b"\n")
    supervisor.end(exit_code=1)
    journal = supervisor.journal()
    result = journal.results()["greedy"]
    assert (result["status"], result["why"]) == ("failed", "memory_limit")
    assert journal.warnings() == ["sampler_died"]
