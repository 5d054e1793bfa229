"""As an ordinary user, with limits on processes, beside fork bombs and where process numbers come round again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, Supervisor, child, job, say
from support.users import NOBODY, as_nobody, bench_for_nobody
from torc_supervise.workflow.model import Job

pytestmark = [pytest.mark.process, pytest.mark.root]


@pytest.fixture
def open_bench() -> Iterator[Bench]:
    with bench_for_nobody() as made:
        yield made


def open_gate(bench: Bench) -> waiting.Fifo:
    gate = bench.gate("gate")
    gate.path.chmod(0o666)
    return gate


def owners(bench: Bench) -> set[int]:
    return {path.stat().st_uid for path in bench.output.rglob("*")}


def run_as_nobody(bench: Bench, *jobs: Job, limits: str = "") -> Supervisor:
    return bench.start(*jobs, before=f"{limits}\n{as_nobody()}")


def test_p4_an_ordinary_user_saves_ends_and_resumes(open_bench: Bench) -> None:
    bench = open_bench
    saver = f"if [ -e saved ]; then exit 0; fi; {child('saver.py', 'saved', '-')}"
    supervisor = run_as_nobody(bench, job("saves", saver), job("plain", SLEEPS, saves=False))
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    assert os.stat(f"/proc/{supervisor.pid}").st_uid == NOBODY
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    results = supervisor.journal().results()
    assert [results[name]["ended"] for name in ("saves", "plain")] == ["in_grace", "killed"]
    assert owners(bench) == {NOBODY}


def test_p10_an_ordinary_users_keeper_ends_the_jobs_of_a_killed_parent(open_bench: Bench) -> None:
    bench = open_bench
    daemon = f"setsid sh -c '{say('daemon')} sleep 1000; true' & sleep 1000"
    supervisor = run_as_nobody(bench, job("saves", child("saver.py", "saved", "-")), job("daemon", daemon))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    bench.said.expect(starting_with="daemon", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    waiting.wait_for_end(keeper)
    waiting.wait_until(lambda: not bench.leftovers(), f"left: {bench.leftovers()}")
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"


def test_p11_a_low_limit_on_processes_slows_jobs_down_and_fails_none(open_bench: Bench) -> None:
    """Forty jobs of one process each, and room for some of them.

    (Of more than one, jobs might leave no room for the second process of any of them: bash gives up after some tries.)
    """
    bench = open_bench
    busy = f"{HOLD} {say('ready')} read -r _ <$BENCH/gate; exit 0"
    jobs = [job(f"j{i}", busy, stdio="none") for i in range(40)]
    gate = open_gate(bench)
    supervisor = run_as_nobody(bench, *jobs, limits=f"ulimit -u {processes_of(NOBODY) + 24}")
    for _ in jobs:
        bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
        gate.put(b"\n")
    supervisor.end(exit_code=0)
    journal = supervisor.journal()
    assert {result["status"] for result in journal.results().values()} == {"completed"}
    assert len(journal.results()) == 40


def processes_of(uid: int) -> int:
    """Threads, which is what the limit counts."""
    found = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return found


BOMB = (
    f"trap '' TERM; ulimit -u {{limit}}; {HOLD} bomb() {{{{ {say('bomb')} bomb | bomb; sleep 1000; }}}}; bomb"
)


def test_p5_of_a_fork_bomb_in_a_job_nothing_is_left(open_bench: Bench) -> None:
    """It forks as much as its limit allows, is deaf to SIGTERM, and dies with its group."""
    bench = open_bench
    command = BOMB.format(limit=processes_of(NOBODY) + 60)
    other = job("other", child("saver.py", "saved", "-"))
    bomb = job("bomb", command, sigterm_lead_seconds=0.5)
    supervisor = run_as_nobody(bench, other, bomb)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    bench.said.expect(20, "bomb", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert bench.leftovers() == []
    results = supervisor.journal().results()
    assert (results["bomb"]["ended"], results["other"]["ended"]) == ("killed", "in_grace")


# -- process numbers that come round again ---------------------------------------------------------------------------

NUMBERS = 400

IN_NAMESPACE = """
set -- unshare --pid --fork --mount-proc bash -c '
    echo $NUMBERS >/proc/sys/kernel/pid_max
    trap : TERM INT HUP USR1 USR2
    setsid bash -c "trap \\"echo hit >>hit\\" TERM INT HUP USR1 USR2; echo bystander >\\$BENCH/said
        while :; do read -r _ <>\\$BENCH/quiet; done" &
    bystander=$!
    "$@"
    code=$?
    kill -0 $bystander && echo alive >bystander
    kill -KILL $bystander
    exit $code' namespace "$@"
"""


def may_limit_pids() -> bool:
    """Whether process numbers can be limited in a namespace alone (Linux 6.14)."""
    script = "echo 400 >/proc/sys/kernel/pid_max"
    before = Path("/proc/sys/kernel/pid_max").read_text()
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 14):
        return False
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", script], capture_output=True, check=False
    )
    return done.returncode == 0 and Path("/proc/sys/kernel/pid_max").read_text() == before


SLOW = "sleep 0.05 & exit 0"
"""Leaves a member of its group behind, which is asked to end while others start."""


def test_p3_numbers_of_processes_that_come_round_hit_no_stranger(bench: Bench) -> None:
    """Jobs enough to use every number twice; some are asked to end while others take the numbers of those before."""
    if not may_limit_pids():
        pytest.skip("this kernel has one pid_max for all namespaces")
    os.mkfifo(bench.directory / "quiet")
    quick = "sleep 1000 & kill $!; exit 0"
    jobs = [job(f"j{i}", quick if i % 7 else SLOW, stdio="none") for i in range(2 * NUMBERS)]
    supervisor = bench.start(
        *jobs, before=IN_NAMESPACE, environment={"NUMBERS": str(NUMBERS)}, max_parallel_jobs=12
    )
    bench.said.expect(starting_with="bystander", unless_gone=supervisor.pid)
    supervisor.end(exit_code=0)
    assert (bench.directory / "bystander").read_text() == "alive\n"
    assert not (bench.directory / "hit").exists()
    found = supervisor.journal()
    results = found.results()
    assert len(results) == 2 * NUMBERS
    assert {result["status"] for result in results.values()} == {"completed"}
    numbers = [entry["pid"] for entry in found.of("job_started")]
    assert len(set(numbers)) < len(numbers), "numbers were used again"
