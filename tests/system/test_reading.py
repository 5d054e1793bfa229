"""What is read while a workflow runs, when its keeper does not answer, and by those who may not read everything."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support.cli import Cli, only
from support.waiting import Fifo, wait_for_state
from torc_supervise import TorcError, cancel, log_files, look_up
from torc_supervise.operations import lookup
from torc_supervise.operations.opened import open_workflow
from torc_supervise.store import layout
from torc_supervise.store.jsontext import dumps, loads

WAITS = """
name: waits
jobs:
  - {name: waiter, command: echo up; exec sleep 1000}
  - {name: after, command: "true", depends_on: [waiter]}
"""


def directory_of(cli: Cli) -> Path:
    return cli.directory / "torc_output" / "workflows" / "1"


@pytest.fixture
def waiting(cli: Cli) -> Cli:
    """A run whose first job waits, and whose supervisor answers."""
    cli.write("w.yaml", WAITS)
    pipe = cli.stdout_pipe(1)
    cli.start("run", "w.yaml")
    pipe.wait_for("up")
    cli.wait_until_live()
    return cli


@pytest.fixture
def finished(cli: Cli) -> Cli:
    cli.write("w.yaml", "name: w\njobs: [{name: first, command: ':'}, {name: second, command: ':'}]\n")
    assert cli.run("run", "w.yaml").code == 0
    return cli


def test_a_running_job_shows_how_long_it_has_run_and_its_pid(waiting: Cli) -> None:
    status = waiting.run("status", "1", "-f", "json", patient=True).json
    waiter, after = status["jobs"]
    assert (status["source"], waiter["status"]) == ("live", "running")
    assert waiter["exec_time_seconds"] > 0.0
    assert status["first_jobs"][0]["exec_time_seconds"] > 0.0
    assert after["exec_time_seconds"] is None
    row = only(line for line in waiting.run("status", "1").out.splitlines() if " waiter " in line)
    assert row.endswith(" s")
    row = only(line for line in waiting.run("jobs", "1").out.splitlines() if " waiter " in line)
    assert row.endswith(f" {waiter['pid']}")


def test_a_snapshot_from_elsewhere_shows_running_jobs_until_now_and_lost_ones_until_then() -> None:
    row = {
        "job_id": 1,
        "status": "running",
        "start_time": "2026-01-31T12:00:00.000000Z",
        "exec_time_seconds": None,
    }
    then = 1769860800.0 + 90
    for alive, expected in ((False, 90.0), (True, time.time() - then + 90)):
        head = {"supervisor": {"alive": alive}, "first_jobs": [row]}
        text = dumps(head)[:-1] + b',"jobs":[\n' + dumps(row) + b",\n" + dumps(row) + b"\n]}\n"
        found = lookup._document(text, "snapshot", then, with_jobs=True)
        assert found.text is not None
        document = loads(found.text)
        for shown in (*document["jobs"], *document["first_jobs"]):
            assert shown["exec_time_seconds"] == pytest.approx(expected, abs=60.0)


def test_a_keeper_that_does_not_answer(waiting: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is as old as it is, and cancel names what can be done here."""
    owner = json.loads((directory_of(waiting) / "lock").read_bytes())
    output = str(waiting.directory / "torc_output")
    monkeypatch.setattr(lookup, "ANSWER_WITHIN", 0.1)
    os.kill(owner["keeper_pid"], signal.SIGSTOP)
    try:
        wait_for_state(owner["keeper_pid"], "T")
        os.utime(directory_of(waiting) / "events.jsonl", (time.time() - 3600, time.time() - 3600))
        head = look_up(output, 1, with_jobs=False).head
        assert (head["source"], head["supervisor"]["alive"]) == ("journal", True)
        assert head["age_seconds"] >= 3600
        with pytest.raises(TorcError) as refused:
            cancel(output, 1, print)
    finally:
        os.kill(owner["keeper_pid"], signal.SIGCONT)
    assert "its keeper does not answer" in refused.value.message
    assert f"'kill -TERM {owner['pid']}' ends it gracefully" in str(refused.value.hint)


def test_cancel_from_another_host_leaves_a_request_for_exactly_that_owner(finished: Cli) -> None:
    """Control: without its lock there is nobody to ask, whatever the last snapshot says."""
    directory = directory_of(finished)
    path = directory / "status.json"
    head, rest = path.read_bytes().split(b"\n", 1)
    host = json.loads(path.read_bytes())["supervisor"]["host"]
    head = head.replace(b'"alive":false', b'"alive":true')
    path.write_bytes(head.replace(f'"host":"{host}'.encode(), f'"host":"far-{host}'.encode()) + b"\n" + rest)
    owner = {"host": f"far-{host}", "pid": 1, "start_ticks": 1, "boot_id": None, "started": "2026"}
    (directory / "lock").write_text(json.dumps({**owner, "command": "run", "nonce": "abc"}))
    done = finished.run("cancel", "1", "-f", "json")
    assert (done.code, done.json["asked"], done.json["through"]) == (0, True, "file"), done.err
    assert f"on far-{host}, finds it within 30 s" in done.err
    assert json.loads((directory / "cancel_request").read_bytes())["lock"] == "abc"
    (directory / "lock").unlink()
    assert "is completed; there is nothing to cancel" in finished.run("cancel", "1").err


def test_who_may_not_read_the_journal_sees_the_snapshot_and_its_age(finished: Cli) -> None:
    """A directory in place of the journal cannot be read by anybody, root included."""
    directory = directory_of(finished)
    document = json.loads((directory / "status.json").read_bytes())
    jobs = document.pop("jobs")
    document["supervisor"] |= {"alive": True, "control": str(directory / "nobody-listens")}
    lines = b",\n".join(map(dumps, jobs))
    (directory / "status.json").write_bytes(dumps(document)[:-1] + b',"jobs":[\n' + lines + b"\n]}\n")
    (directory / "events.jsonl").unlink()
    (directory / "events.jsonl").mkdir()

    status = finished.run("status", "1", "-f", "json")
    assert (status.code, status.json["source"]) == (0, "snapshot"), status.err
    assert status.json["age_seconds"] >= 0
    assert only(finished.run("list", "-f", "json").json["items"])["name"] == "w"
    for command in (["results", "1"], ["reinitialize", "1", "--dry-run"]):
        refused = finished.run(*command)
        assert refused.code == 2
        assert "cannot read " in refused.err
        assert "internal error" not in refused.err

    (directory / "status.json").unlink()
    assert "cannot read " in finished.run("status", "1").err
    assert "error" in only(finished.run("list", "-f", "json").json["items"])


def test_an_unknown_status_is_refused_with_the_ones_there_are(finished: Cli) -> None:
    refused = finished.run("jobs", "1", "--status", "bogus")
    assert refused.code == 2
    assert "terminated" in refused.err
    assert len(finished.run("jobs", "1", "--status", "completed", "-f", "json").json["items"]) == 2


def test_results_of_a_run_that_has_none_yet(finished: Cli) -> None:
    cli = finished
    cli.run("reset-status", "1", "--reinitialize")
    done = cli.run("results", "1", "-f", "json")
    assert done.json == {"items": []}
    assert "--all-runs shows those of earlier runs" in done.err
    assert len(cli.run("results", "1", "--all-runs", "-f", "json").json["items"]) == 2


def test_the_names_of_jobs_are_completed(finished: Cli) -> None:
    env = {
        "_TORC_SUPERVISE_COMPLETE": "complete_bash",
        "COMP_WORDS": "torc-supervise logs 1 fi",
        "COMP_CWORD": "3",
    }
    assert finished.run(env=env).out.split() == ["first"]
    nothing = {**env, "COMP_WORDS": "torc-supervise logs 17 fi"}
    assert finished.run(env=nothing).out.split() == []


# -- logs --follow ------------------------------------------------------------------------------------------------


def test_a_run_that_is_not_on_record_yet_may_still_print(finished: Cli) -> None:
    """Whoever follows its workflow from its first moment on would see nothing, and be told that all is well."""
    output = str(finished.directory / "torc_output")
    with open_workflow(layout.find(output, 1), "run", lambda _: None):
        assert not log_files(output, 1, None, ("stdout",)).over
    assert log_files(output, 1, None, ("stdout",)).over


def test_following_a_workflow_shows_jobs_that_start_later(cli: Cli) -> None:
    up, first, second = (Fifo(cli.directory / name) for name in ("up", "go1", "go2"))
    cli.write(
        "w.yaml",
        "name: w\njobs:\n"
        "  - {name: a, command: echo early; echo up > up; read x < go1}\n"
        "  - {name: b, command: echo late; read x < go2, depends_on: [a]}\n",
    )
    supervisor = cli.start("run", "w.yaml")
    up.expect()
    cli.wait_until_started(1)
    follower = cli.start("logs", "1", "--follow")
    assert "==> a: stdout <==" in follower.wait_for_out("early")
    first.put(b"go\n")
    assert "==> b: stdout <==" in follower.wait_for_out("late")
    second.put(b"go\n")
    assert supervisor.finish().code == 0
    assert follower.finish().code == 0
    for fifo in (up, first, second):
        fifo.close()


def test_following_one_job_ends_with_it_however_many_others_run(cli: Cli) -> None:
    """More than the head of a status document shows."""
    up, go = Fifo(cli.directory / "up"), Fifo(cli.directory / "go")
    cli.write(
        "w.yaml",
        "name: w\njobs:\n"
        "  - {name: 'other_{i}', command: echo up > up; exec sleep 1000, parameters: {i: 1:31}}\n"
        "  - {name: last, command: echo up > up; echo here; read x < go}\n",
    )
    supervisor = cli.start("run", "w.yaml", "--max-parallel-jobs", "32")
    up.expect(32)
    cli.wait_until_started(32)
    follower = cli.start("logs", "1", "last", "--follow", "--stdout")
    assert follower.wait_for_out("here") == "here\n"
    assert follower.process.poll() is None
    go.put(b"go\n")
    assert follower.finish().code == 0
    assert supervisor.process.poll() is None
    supervisor.signal(signal.SIGTERM)
    assert supervisor.finish().code == 75
    up.close()
    go.close()
