"""Cgroups on a real kernel, where one can be made."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from torc_supervise.posix import cgroups
from torc_supervise.posix.cgroups import JobCgroup, JobCgroups, RunCgroup
from torc_supervise.posix.shell import command_line

pytestmark = [pytest.mark.process, pytest.mark.root]


@pytest.fixture
def run() -> Iterator[RunCgroup]:
    made = cgroups.make(uuid.uuid4().hex)
    if made is None:
        pytest.skip("no cgroup (v2) can be made here")
    yield made
    wait_until_removed(made)


@pytest.fixture
def job(run: RunCgroup) -> JobCgroup:
    made = run.job("1")
    assert made.make()
    assert made.make(), "a second time, too"
    return made


def wait_until_removed(cgroup: RunCgroup | JobCgroup) -> None:
    """Linux may keep one for a moment longer than its last process can be seen."""

    def removed() -> bool:
        cgroup.remove()
        return not Path(cgroup.directory).exists()

    waiting.wait_until(removed, "it is not removed")


def start(job: JobCgroup, command: str) -> subprocess.Popen[bytes]:
    argv = command_line("/bin/bash", command, None, None, cgroup=job.entrance)
    return subprocess.Popen(argv, start_new_session=True)


def programs(job: JobCgroup) -> list[str | None]:
    """What is in it; None for what has gone meanwhile."""
    found: list[str | None] = []
    for pid in job.processes():
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip())
        except OSError:
            found.append(None)
    return found


def test_a_job_moves_itself_and_takes_everything_along(job: JobCgroup) -> None:
    child = start(job, "(setsid env -i sleep 1000 &); exec sleep 1000")
    waiting.wait_until(lambda: programs(job) == ["sleep", "sleep"], "they did not come")
    assert child.pid in job.processes()
    assert {cgroups.path_of(pid) for pid in job.processes()} == {job.path}
    assert cgroups.path_of(os.getpid()) != job.path
    job.kill()
    child.wait()
    waiting.wait_until(lambda: not job.processes(), "they are still there")
    wait_until_removed(job)


def test_one_that_holds_a_process_is_not_removed(job: JobCgroup) -> None:
    child = start(job, "exec sleep 1000")
    waiting.wait_until(job.processes, "it did not come")
    job.remove()
    assert Path(job.directory).exists()
    child.kill()
    child.wait()


def test_a_zombie_is_no_process_of_it(job: JobCgroup) -> None:
    child = start(job, "exec sleep 1000")
    waiting.wait_until(job.processes, "it did not come")
    child.kill()
    waiting.wait_for_end(child.pid)
    waiting.wait_until(lambda: job.processes() == [], "the zombie counts")
    wait_until_removed(job)
    child.wait()


def test_processes_further_below_count_only_when_nothing_else_is_left(job: JobCgroup) -> None:
    below = RunCgroup(job.directory, job.path).job("2")
    assert below.make()
    inner, outer = start(below, "exec sleep 1000"), start(job, "exec sleep 1000")
    waiting.wait_until(lambda: below.processes() and outer.pid in job.processes(), "they did not come")
    assert job.processes() == [outer.pid]
    outer.kill()
    outer.wait()
    waiting.wait_until(lambda: job.processes() == [inner.pid], "it is not seen")
    job.kill()
    inner.wait()
    waiting.wait_until(lambda: not job.processes(), "they are still there")


def test_where_it_cannot_move_a_job_stays_and_runs(tmp_path: Path) -> None:
    nowhere = JobCgroup("1", str(tmp_path / "no" / "cgroup"), "/no/cgroup")
    assert not nowhere.make()
    assert start(nowhere, "exit 3").wait() == 3
    assert nowhere.processes() == []
    nowhere.kill()
    nowhere.remove()


def test_a_directory_that_may_not_be_written_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, path)

    monkeypatch.setattr(os, "mkdir", refuse)
    assert cgroups.make("nonce") is None


def test_p3_one_whose_attempts_end_is_durable_is_used_again(run: RunCgroup) -> None:
    ours = JobCgroups(run)
    first, second = ours.take(1), ours.take(2)
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("1", "2")
    assert run.name_of(os.getpid()) is None
    child = start(second, "exec sleep 1000")
    waiting.wait_until(second.processes, "it did not come")
    assert run.name_of(child.pid) == "2"
    child.kill()
    child.wait()
    waiting.wait_until(second.is_as_new, "it is still there")
    ours.ended(2, 17)
    ours.confirmed(16)
    third = ours.take(3)
    assert third is not None
    assert third.name == "3", "its end is not durable yet: a last will would take it for the first one's"
    ours.confirmed(17)
    assert ours.take(4) == second
    ours.not_started(4)
    assert ours.take(5) == second
    ours.remove()
    assert not Path(run.directory).exists()


def returned(ours: JobCgroups, job_id: int) -> None:
    """The end of the job's attempt is durable."""
    ours.ended(job_id, job_id)
    ours.confirmed(job_id)


def test_p5_one_that_still_holds_a_process_is_for_no_other_job(run: RunCgroup) -> None:
    ours = JobCgroups(run)
    held = ours.take(1)
    assert held is not None
    child = start(held, "exec sleep 1000")
    waiting.wait_until(held.processes, "it did not come")
    returned(ours, 1)
    other = ours.take(2)
    assert other is not None
    assert other.name != held.name
    child.kill()
    child.wait()


@pytest.mark.parametrize("how", ["frozen", "nested"])
def test_one_that_is_not_as_new_is_for_no_other_job(run: RunCgroup, how: str) -> None:
    ours = JobCgroups(run)
    left = ours.take(1)
    assert left is not None
    if how == "frozen":
        Path(left.directory, "cgroup.freeze").write_text("1")
    else:
        Path(left.directory, "below").mkdir()
    returned(ours, 1)
    other = ours.take(2)
    assert other is not None
    assert other.name != left.name
    assert not Path(left.directory).exists()
