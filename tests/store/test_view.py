"""The documents of DESIGN section 6."""

from __future__ import annotations

from typing import Any

import pytest

from support.replaying import NEVER, SIGTERM, ExecutionConfig, Program, World, job
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.store import snapshot, view
from torc_supervise.store.jsontext import dumps, loads
from torc_supervise.store.layout import WorkflowFiles

FILES = WorkflowFiles("/out", 1)


def document(state: WorkflowState) -> dict[str, Any]:
    data = b"".join(view.status_document(state, FILES, view.supervisor_fields(state, alive=True)))
    parsed: dict[str, Any] = loads(data)
    return parsed


@pytest.fixture
def world() -> World:
    """1 completed, 2 runs, 3 waits for it, 4 failed."""
    return World(
        job(1),
        job(2, checkpoint="m.pt"),
        job(3, depends_on=(1, 2)),
        job(4),
        programs={2: Program(seconds=NEVER, saves=1.0), 4: Program(seconds=1.0, code=3)},
    ).until(20.0)


def test_status_has_the_fields_of_the_design(world: World) -> None:
    found = document(world.state)
    assert found.keys() >= {"workflow_id", "name", "run_id", "state", "supervisor", "jobs_by_status", "jobs"}
    assert found["supervisor"].keys() >= {"host", "pid", "alive", "slurm_job_id", "end_time"}
    assert found["jobs_by_status"].keys() == {s.value for s in Status}, "every status, also those with no job"
    assert found["jobs_by_status"]["completed"] == 1
    for row in found["jobs"]:
        assert row.keys() >= {
            "job_id",
            "name",
            "status",
            "attempt_id",
            "pid",
            "pgid",
            "start_time",
            "exec_time_seconds",
            "return_code",
            "signal",
            "ended",
            "depends_on",
            "stdout",
            "stderr",
        }


def test_job_rows_say_what_is_known(world: World) -> None:
    done, running, waiting, failed = document(world.state)["jobs"]
    assert (done["status"], done["return_code"], done["exec_time_seconds"], done["pid"]) == (
        "completed",
        0,
        10.0,
        None,
    )
    assert (running["status"], running["pid"], running["return_code"]) == ("running", 101, None)
    assert running["stdout"] == "/out/job_stdio/job_wf1_j2_r1_a1.o"
    assert (waiting["status"], waiting["depends_on"], waiting["stdout"]) == ("blocked", ["j1", "j2"], None)
    assert (failed["status"], failed["return_code"], failed["ended"]) == ("failed", 3, "exited")


def test_the_head_is_the_first_line(world: World) -> None:
    data = b"".join(view.status_document(world.state, FILES, None))
    head = snapshot.head_of(data.splitlines(keepends=True)[0])
    assert head["workflow_id"] == 1
    assert "jobs" not in head
    whole = loads(data)
    assert {key: whole[key] for key in head} == head
    assert snapshot.head_of(dumps(head)) == head, "also without a jobs part"


def test_the_document_says_how_things_were_when_it_was_asked_for() -> None:
    """It is written to a disk that may take long, while the keeper goes on."""
    jobs = [job(n) for n in range(1, 2 * view.ROWS_AT_A_TIME)]
    world = World(*jobs, programs={1: Program(NEVER)}).until(5.0)
    expected = document(world.state)
    pieces = view.status_document(world.state, FILES, None)
    head = next(pieces)
    world.signal(SIGTERM)
    world.finish()
    assert document(world.state)["jobs"] != expected["jobs"]
    assert loads(head + b"".join(pieces))["jobs"] == expected["jobs"]


def test_an_empty_workflow_makes_a_valid_document() -> None:
    assert document(World().state)["jobs"] == []


def test_a_workflow_that_never_ran_has_no_supervisor() -> None:
    from support.replaying import state_of

    found = document(state_of(job(1)))
    assert (found["supervisor"], found["state"]) == (None, "ready")


def test_names_that_need_escaping_stay_json() -> None:
    name = 'he said "jobs":[\n\u2028 ]}'
    found = document(World(job(1, name)).state)
    assert found["jobs"][0]["name"] == name
    data = b"".join(view.status_document(World(job(1, name)).state, FILES, None))
    assert snapshot.head_of(data.splitlines(keepends=True)[0])["first_jobs"][0]["name"] == name


def test_the_head_of_a_large_workflow_shows_what_runs_and_what_went_wrong() -> None:
    programs = {n: Program(seconds=1.0, code=1) for n in range(50, 60)}
    programs |= {n: Program(seconds=NEVER) for n in range(90, 95)}
    world = World(*(job(n) for n in range(1, 101)), programs=programs).until(50.0)
    head = view.status_head(world.state, FILES, None)
    assert [row["job_id"] for row in head["first_jobs"]] == [*range(90, 95), *range(50, 60)]
    assert head["jobs_total"] == 100


def test_the_head_is_bounded_whatever_runs() -> None:
    world = World(*(job(n) for n in range(1, 65)), programs={n: Program(NEVER) for n in range(1, 65)})
    assert len(view.status_head(world.state, FILES, None)["first_jobs"]) == view.SHOWN_FIRST


def test_results_have_the_fields_of_the_design(world: World) -> None:
    world.signal(SIGTERM)
    world.finish()
    t, record = world.state.results[2]
    row = view.result_row(world.state, FILES, t, record)
    assert row.keys() >= {
        "job_id",
        "job_name",
        "run_id",
        "attempt_id",
        "status",
        "return_code",
        "signal",
        "ended",
        "exec_time_minutes",
        "completion_time",
        "max_rss_bytes",
        "user_cpu_seconds",
        "system_cpu_seconds",
    }
    assert (row["job_name"], row["status"], row["ended"], row["why"]) == (
        "j2",
        "terminated",
        "in_grace",
        "signal",
    )
    assert row["exec_time_minutes"] == pytest.approx(21.0 / 60)
    assert row["max_rss_bytes"] == 1 << 20
    shown = view.job_row(world.state, FILES, world.state.job(2))
    assert (shown["checkpoint"], shown["checkpoint_saved"]) == ("m.pt", None)


def test_a_result_of_a_job_that_is_gone_from_the_specification_is_still_shown(world: World) -> None:
    record = r.JobEnded(1, 99, 1, "failed", "lost")
    row = view.result_row(world.state, FILES, "t", record)
    assert (row["job_name"], row["exec_time_minutes"], row["return_code"]) == (None, None, None)


@pytest.mark.parametrize(
    ("mode", "suffixes"),
    [
        ("separate", ("o", "e")),
        ("combined", ("log", "log")),
        ("no_stdout", (None, "e")),
        ("no_stderr", ("o", None)),
        ("none", (None, None)),
    ],
)
def test_stdio_paths_of_each_mode(mode: Any, suffixes: tuple[str | None, str | None]) -> None:
    found = view.stdio_paths(FILES, mode, 1, 1, 1)
    assert tuple(p and p.rsplit(".", 1)[1] for p in found) == suffixes


def test_a_jobs_own_stdio_mode_wins_over_the_workflows() -> None:
    world = World(job(1), job(2, stdio="combined"), execution=ExecutionConfig(stdio="none")).finish()
    rows = document(world.state)["jobs"]
    assert (rows[0]["stdout"], rows[0]["stderr"]) == (None, None)
    assert rows[1]["stdout"] == rows[1]["stderr"] == "/out/job_stdio/job_wf1_j2_r1_a1.log"
