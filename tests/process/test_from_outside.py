"""What reaches a supervisor through the file system: a request to cancel, and another owner of its workflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from support import waiting
from support.supervised import SLEEPS, Bench, Supervisor, child, job
from torc_supervise.errors import WorkflowBusy
from torc_supervise.operations.opened import take_lock
from torc_supervise.store import requests
from torc_supervise.store.layout import WorkflowFiles, claim_new
from torc_supervise.store.lock import Owner, acquire, read_owner
from torc_supervise.store.requests import CancelRequest

pytestmark = pytest.mark.process

ASKED = "2026-01-31T12:00:00.000000Z"


def files_of(bench: Bench) -> WorkflowFiles:
    return WorkflowFiles(str(bench.output), 1)


def owner_of(bench: Bench) -> Owner:
    owner = read_owner(files_of(bench).lock)
    assert owner is not None
    return owner


def leave_request(bench: Bench, **address: str | None) -> None:
    request = CancelRequest(lock=owner_of(bench).nonce, slurm_job_id=None, asked=ASKED, host="login")
    requests.leave(files_of(bench), replace(request, **address))  # type: ignore[arg-type]


def started(bench: Bench, command: str = SLEEPS, **options: str) -> Supervisor:
    supervisor = bench.start(job("long", command), environment=options or None)
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    return supervisor


@pytest.mark.parametrize("signum", [signal.SIGURG, signal.SIGTERM], ids=["nudge", "termination"])
def test_a_request_that_a_signal_points_to_ends_jobs_as_canceled(
    bench: Bench, signum: signal.Signals
) -> None:
    leave = bench.gate("leave")
    supervisor = started(bench, child("saver.py", "checkpoint", "leave"))
    leave_request(bench)
    supervisor.signal(signum)
    waiting.wait_until(lambda: supervisor.journal().of("workflow_canceled"), "not canceled")
    leave.put(b"x")
    report = supervisor.end(exit_code=1)
    result = supervisor.journal().results()["long"]
    assert (result["status"], result["why"], result["ended"]) == ("canceled", "cancel", "in_grace")
    assert len(supervisor.journal().of("signal_received")) == (signum is not signal.SIGURG)
    assert report["state"] == "canceled"
    assert len(supervisor.journal().of("workflow_canceled")) == 1
    assert not os.path.exists(files_of(bench).cancel_request)


def test_a_request_is_found_without_any_signal_and_brings_the_allocations_that_were_canceled(
    bench: Bench,
) -> None:
    supervisor = started(bench, SLURM_JOB_ID="17")
    request = CancelRequest(None, "17", ASKED, "login", ("18", "19"))
    keeper = supervisor.keeper()
    requests.leave(files_of(bench), request)
    waiting.kill_all([keeper])  # the next keeper looks as soon as it is there; this one may have been faster
    supervisor.end(exit_code=1)
    journal = supervisor.journal()
    assert journal.results()["long"]["status"] == "canceled"
    assert [(e["slurm_job_id"], e["how"]) for e in journal.of("allocation_ended")] == [
        ("18", "canceled"),
        ("19", "canceled"),
    ]


def test_a_request_for_somebody_else_cancels_nothing(bench: Bench) -> None:
    """Control: the one that is meant for it does, after the same look."""
    supervisor = started(bench, SLURM_JOB_ID="17")
    leave_request(bench, lock="another")
    supervisor.signal(signal.SIGURG)
    os.kill(supervisor.keeper(), signal.SIGKILL)
    waiting.wait_until(lambda: "keeper_died" in supervisor.journal().warnings(), "no new keeper")
    assert os.path.exists(files_of(bench).cancel_request)
    assert supervisor.journal().of("workflow_canceled") == []
    leave_request(bench)
    supervisor.signal(signal.SIGURG)
    supervisor.end(exit_code=1)


def take_over(bench: Bench, *, leave: bool) -> Owner:
    """As another host does that believes the owner to be dead."""
    owner = replace(owner_of(bench), host="elsewhere", pid=1, keeper_pid=None, command="run")
    lock, _ = acquire(files_of(bench).lock, owner, lambda holder: False)
    if leave:
        lock.release()
    return lock.owner


HOLDS = """
import sys
from torc_supervise.operations.opened import take_lock
from torc_supervise.store.layout import WorkflowFiles
lock = take_lock(WorkflowFiles(sys.argv[1], 1), "run", print)
print(lock.owner.pid, flush=True)
sys.stdin.read()
"""


def test_an_owner_in_a_container_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Host and boot are the same, and its pid is nobody's here, or somebody else's."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespaces for users")
    files = claim_new(str(tmp_path))
    holder = [*unshare, sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdout is not None
        assert inside.stdout.readline() == "1\n"
        with pytest.raises(WorkflowBusy, match="which is in another PID namespace of this host"):
            take_lock(files, "run", print)


def test_a_supervisor_whose_workflow_was_taken_over_ends_its_jobs_and_writes_nothing(bench: Bench) -> None:
    supervisor = started(bench)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not recorded")
    before = supervisor.journal().entries
    new = take_over(bench, leave=False)
    supervisor.signal(signal.SIGURG)
    supervisor.end(exit_code=70)
    bench.held.wait()
    assert supervisor.journal().entries == before
    assert "belongs to 'torc-supervise run' (pid 1 on elsewhere" in supervisor.said()
    assert owner_of(bench).nonce == new.nonce, "and the lock is not removed"


def test_a_keeper_that_finds_another_owner_on_its_way_to_write_stops(bench: Bench) -> None:
    """Nobody tells it: the job's own end is what it wants to write."""
    supervisor = bench.start(job("asks", child("saver.py", "checkpoint", "-")))
    bench.said.expect(starting_with="ready", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not recorded")
    before = supervisor.journal().entries
    take_over(bench, leave=False)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=70)
    assert supervisor.journal().entries == before


@pytest.mark.parametrize("signum", [signal.SIGURG, signal.SIGTERM], ids=["by looking", "by writing"])
def test_a_writer_that_came_and_went_is_noticed_by_what_it_wrote(
    bench: Bench, signum: signal.Signals
) -> None:
    supervisor = started(bench)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not recorded")
    take_over(bench, leave=True)
    with open(files_of(bench).journal, "ab") as file:
        number = len(supervisor.journal().entries) + 1
        file.write(b'{"t":"2026","mono":1.0,"seq":%d,"event":"run_ended","run_id":1,"state":"x"}\n' % number)
    before = supervisor.journal().entries
    supervisor.signal(signum)
    supervisor.end(exit_code=70)
    assert supervisor.journal().entries == before


def test_a_lock_that_was_removed_by_hand_is_put_back(bench: Bench) -> None:
    supervisor = started(bench)
    waiting.wait_until(
        lambda: supervisor.journal().of("job_started"), "not recorded"
    )  # its keeper has signed
    owner = owner_of(bench)
    os.unlink(files_of(bench).lock)
    supervisor.signal(signal.SIGURG)
    waiting.wait_until(lambda: read_owner(files_of(bench).lock) is not None, "not put back")
    assert owner_of(bench).nonce == owner.nonce
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    assert not os.path.exists(files_of(bench).lock)
