"""Jobs that somebody has frozen: a process in a frozen cgroup acts on no signal until it is thawed (P12)."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.supervised import Bench, child, job

pytestmark = [pytest.mark.process, pytest.mark.root]


class Freezer:
    """A cgroup of version 1: what is frozen in it is in uninterruptible sleep, and SIGKILL waits as well."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def freeze(self, pid: int) -> None:
        (self._directory / "cgroup.procs").write_text(str(pid))
        self._state("FROZEN")

    def thaw(self) -> None:
        self._state("THAWED")

    def _state(self, wanted: str) -> None:
        (self._directory / "freezer.state").write_text(wanted)
        state = self._directory / "freezer.state"
        waiting.wait_until(lambda: state.read_text().strip() == wanted, f"it is not {wanted}")


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    directory = Path("/sys/fs/cgroup/freezer") / f"torc-test-{uuid.uuid4().hex}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer (cgroup v1) here: {error}")
    made = Freezer(directory)
    try:
        yield made
    finally:
        made.thaw()
        procs = directory / "cgroup.procs"
        waiting.wait_until(lambda: not procs.read_text(), "somebody is still in the freezer")
        directory.rmdir()


@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p12_a_job_that_sigkill_does_not_reach_is_recorded_and_left(
    bench: Bench, freezer: Freezer, killed: bool
) -> None:
    """The real thing: state D, whatever it is sent.  The other job saves as ever, and the end comes in bounded time."""
    supervisor = bench.start(
        job("frozen", child("counts.py", "frozen"), saves=False),
        job("saves", child("saver.py", "saved", "-")),
    )
    ready = bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    pid = next(int(line.split()[2]) for line in ready if "frozen" in line)
    waiting.wait_until(lambda: len(supervisor.journal().of("job_started")) == 2, "not on record")
    freezer.freeze(pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    bench.said.expect(1, "saved")
    waiting.wait_for_end(keeper)
    supervisor.end_alone()
    assert supervisor.process.returncode == (-signal.SIGKILL if killed else 75)
    results = supervisor.journal().results()
    assert (results["frozen"]["status"], results["frozen"]["ended"]) == ("terminated", "unkillable")
    assert results["saves"]["ended"] == "in_grace"
    assert waiting.state_of(pid) == "D", "it is still there"
    freezer.thaw()
    bench.held.wait()


@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("killed", [False, True], ids=["supervisor", "last will"])
def test_p12_a_job_whose_cgroup_is_frozen_is_killed_when_its_grace_is_over(
    bench: Bench, killed: bool
) -> None:
    """Version 2: it does not hear that it is asked, and SIGKILL does reach it."""
    supervisor = bench.start(
        job("frozen", child("saver.py", "saved", "-"), sigterm_lead_seconds=0.5), cgroups=True
    )
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "not on record")
    run = Path(supervisor.journal().of("run_started")[0]["cgroup"])
    (run / "1" / "cgroup.freeze").write_text("1")
    events = run / "1" / "cgroup.events"
    waiting.wait_until(lambda: "frozen 1" in events.read_text(), "it is not frozen")
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL if killed else signal.SIGTERM)
    waiting.wait_for_end(keeper)
    supervisor.end_alone()
    bench.held.wait()
    assert not (bench.directory / "saved").exists()
    assert supervisor.journal().results()["frozen"]["ended"] == "killed"
    assert not os.path.exists(run)
