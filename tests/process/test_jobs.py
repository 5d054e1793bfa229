"""What jobs get and what becomes of them: environment, GPUs, files, limits, dependents."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from support import waiting
from support.supervised import HOLD, SLEEPS, Bench, child, job, needs, say, workflow_of

pytestmark = pytest.mark.process


def test_exit_codes_and_deaths_by_signal(bench: Bench) -> None:
    supervisor = bench.start(
        job("zero", "true"),
        job("three", "exit 3"),
        job("usr2", "kill -USR2 $$"),
        job("missing", "no-such-program"),
    )
    supervisor.end(exit_code=1)
    results = supervisor.journal().results()
    assert {name: (r["status"], r["return_code"], r.get("signal")) for name, r in results.items()} == {
        "zero": ("completed", 0, None),
        "three": ("failed", 3, None),
        "usr2": ("failed", 128 + signal.SIGUSR2, "SIGUSR2"),
        "missing": ("failed", 127, None),
    }
    assert {r["ended"] for r in results.values()} == {"exited"}


def test_dependents_of_a_failed_job_are_canceled(bench: Bench) -> None:
    supervisor = bench.start(
        job("fails", "exit 1"),
        job("after", "true", after=("fails",)),
        job("later", "true", after=("after",)),
        job("anyway", "true", after=("fails",), cancel_on_blocking_job_failure=False),
    )
    report = supervisor.end(exit_code=1)
    counts = report["jobs_by_status"]
    assert (counts["failed"], counts["canceled"], counts["completed"]) == (1, 2, 1)


def test_output_files_that_are_missing_make_a_job_fail(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job("makes", "touch one", output_files=("one",)),
            job("forgets", "touch two", output_files=("two", "three")),
            files={"one": "one", "two": "two", "three": "sub/three"},
        )
    )
    supervisor.end(exit_code=1)
    results = supervisor.journal().results()
    assert results["makes"]["status"] == "completed"
    assert list(results["makes"]["outputs_seen"]) == ["one"]
    forgets = results["forgets"]
    assert (forgets["status"], forgets["return_code"], forgets["missing_outputs"]) == ("failed", 1, ["three"])


def test_p9_an_answer_about_files_is_not_lost_with_its_keeper(bench: Bench) -> None:
    """The keeper is stopped while the question is on its way, and killed: the next one is asked again."""
    gate = bench.gate("gate")
    supervisor = bench.start(
        workflow=workflow_of(
            job("makes", f"{HOLD} {say('ready')} read -r _ <$BENCH/gate; touch one", output_files=("one",)),
            files={"one": "one"},
        )
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.stop(keeper)
    gate.put(b"\n")
    bench.held.wait()
    os.kill(keeper, signal.SIGKILL)
    supervisor.end(exit_code=0)
    assert supervisor.journal().results()["makes"]["status"] == "completed"


def test_gpus_of_jobs_that_run_together_are_distinct(bench: Bench) -> None:
    leave = bench.gate("leave")
    show = f"{HOLD} echo gpus $CUDA_VISIBLE_DEVICES >$BENCH/said; read -r _ <$BENCH/leave"
    supervisor = bench.start(
        *(job(f"j{i}", show, requirements=needs(num_gpus=2)) for i in range(3)),
        job("none", 'echo "none[${CUDA_VISIBLE_DEVICES-unset}]" >$BENCH/said'),
        environment={"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c,GPU-d"},
        max_parallel_jobs=None,
        num_cpus=8,
    )
    first = bench.said.expect(2, "gpus", unless_gone=supervisor.pid)
    names = [name for line in first for name in line.split()[1].split(",")]
    assert sorted(names) == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
    leave.put(b"\n")
    third = bench.said.expect(1, "gpus", unless_gone=supervisor.pid)[0].split()[1].split(",")
    assert set(third) in [set(line.split()[1].split(",")) for line in first], (
        "what the job that ended gave back"
    )
    leave.put(b"\n\n")
    supervisor.end(exit_code=0)
    started = supervisor.journal().of("job_started")
    assert sorted(len(entry.get("gpus") or ()) for entry in started) == [0, 2, 2, 2]


def test_environment_of_a_job(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job(
                "shows",
                "env | grep -E '^(TORC_|MINE|OUTER)' | grep -v TORC_TEST | LC_ALL=C sort",
                env={"MINE": "a b", "TORC_JOB_ID": "forged"},
            ),
            job("plain", "echo $TORC_GRACE_SECONDS $TORC_END_TIME", saves=False),
            grace=20.0,
        ),
        environment={"OUTER": "1"},
    )
    supervisor.end(exit_code=0)
    stdio = bench.output / "job_stdio"
    nonce = supervisor.journal().of("run_started")[0]["nonce"]
    assert (stdio / "job_wf1_j1_r1_a1.o").read_text().splitlines() == [
        "MINE=a b",
        "OUTER=1",
        "TORC_ATTEMPT_ID=1",
        "TORC_GRACE_SECONDS=20",
        "TORC_JOB_ID=1",
        "TORC_JOB_NAME=shows",
        f"TORC_OUTPUT_DIR={bench.output}",
        "TORC_RUN_ID=1",
        f"TORC_RUN_NONCE={nonce}",
        "TORC_WORKFLOW_ID=1",
        f"TORC_WORKFLOW_SUBMISSION_DIR={bench.directory}",
    ]
    assert (stdio / "job_wf1_j2_r1_a1.o").read_text() == "0\n"


def test_end_time_is_told_to_jobs(bench: Bench) -> None:
    supervisor = bench.start(job("shows", "echo $TORC_END_TIME"), time_limit=10_000.0)
    supervisor.end(exit_code=0)
    told = int((bench.output / "job_stdio" / "job_wf1_j1_r1_a1.o").read_text())
    now = (bench.output / "job_stdio" / "job_wf1_j1_r1_a1.o").stat().st_mtime
    assert now + 9_000 < told < now + 10_000


@pytest.mark.parametrize(
    ("mode", "files"),
    [
        ("separate", {"o": "out\n", "e": "err\n"}),
        ("combined", {"log": "out\nerr\n"}),
        ("no_stdout", {"e": "err\n"}),
        ("no_stderr", {"o": "out\n"}),
        ("none", {}),
    ],
)
def test_stdio_modes(bench: Bench, mode: str, files: dict[str, str]) -> None:
    supervisor = bench.start(job("writes", "echo out; echo err >&2", stdio=mode))
    supervisor.end(exit_code=0)
    written = {path.suffix[1:]: path.read_text() for path in (bench.output / "job_stdio").iterdir()}
    assert written == files


def test_a_job_over_its_memory_is_killed_and_failed(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job(
                "greedy",
                child("allocates.py", "200"),
                requirements=needs(memory_bytes=64 << 20, memory_stated=True),
            ),
            job("modest", "exit 0", requirements=needs(memory_bytes=64 << 20, memory_stated=True)),
            sample=0.05,
        )
    )
    supervisor.end(exit_code=1)
    bench.held.wait()
    results = supervisor.journal().results()
    greedy = results["greedy"]
    assert (greedy["status"], greedy["ended"], greedy["return_code"], greedy["why"]) == (
        "failed",
        "killed",
        137,
        "memory_limit",
    )
    assert greedy["peak_memory_bytes"] > 64 << 20
    assert results["modest"]["status"] == "completed"


def test_control_without_limit_resources_a_greedy_job_goes_on(bench: Bench) -> None:
    supervisor = bench.start(
        workflow=workflow_of(
            job(
                "greedy",
                child("allocates.py", "200"),
                requirements=needs(memory_bytes=64 << 20, memory_stated=True),
            ),
            job("long", f"{HOLD} {say('long')} exec sleep 1000"),
            sample=0.02,
            limit_resources=False,
        )
    )
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert supervisor.journal().results()["greedy"]["status"] == "terminated"


def test_p4_a_program_whose_main_thread_has_ended_still_saves(bench: Bench) -> None:
    """The leader is bash, which dies of the signal; the member shows as a zombie while its thread saves."""
    leave = bench.gate("leave")
    supervisor = bench.start(job("threads", f"{child('thread_saves.py', 'checkpoint', 'leave')}; true"))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    pgid = int(bench.said.expect(starting_with="asked", unless_gone=supervisor.pid)[0].split()[1])
    waiting.wait_for_state(pgid, "Z")
    leave.put(b"x")
    supervisor.end(exit_code=75)
    assert (bench.directory / "checkpoint").exists()
    assert supervisor.journal().results()["threads"]["ended"] == "in_grace"


def control_socket(bench: Bench) -> str:
    """Where the running supervisor listens."""
    snapshot = Path(bench.output / "workflows" / "1" / "status.json")
    waiting.wait_until(snapshot.exists, "no snapshot")
    path: str = json.loads(snapshot.read_bytes())["supervisor"]["control"]
    return path


def cancel(path: str) -> None:
    """Over the control socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b'{"ask": "cancel"}\n')
        assert json.loads(client.recv(4096)) == {"canceled": True}


def test_p10_a_cancel_that_the_supervisor_did_not_live_to_record_is_recorded(bench: Bench) -> None:
    """Whoever asked was told that it will be done."""
    supervisor = bench.start(job("long", SLEEPS))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    listens = control_socket(bench)  # in the snapshot, for which its keeper waits for its records
    supervisor.stop(supervisor.pid)
    cancel(listens)
    supervisor.signal(signal.SIGKILL)
    bench.held.wait()
    waiting.wait_for_end(keeper)
    kinds = [entry["event"] for entry in supervisor.journal().entries]
    assert kinds.index("workflow_canceled") < kinds.index("job_ended") < kinds.index("run_ended")


def test_a_cancel_over_the_control_socket(bench: Bench) -> None:
    supervisor = bench.start(job("long", SLEEPS))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    cancel(control_socket(bench))
    report = supervisor.end(exit_code=1)
    assert report["state"] == "canceled"
    assert supervisor.journal().results()["long"]["status"] == "canceled"
    bench.held.wait()
