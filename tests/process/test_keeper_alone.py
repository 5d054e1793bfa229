"""A keeper that cannot write outlives its supervisor, but not for ever, and nobody waits for it (P12)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support import waiting
from support.supervised import job, workflow_of
from torc_supervise.helpers import alone
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.operations.opened import OpenWorkflow, create_workflow
from torc_supervise.operations.reinitialize import first_record
from torc_supervise.store.journal import Journal

pytestmark = pytest.mark.process


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, there is no room for the journal."""
    mark = tmp_path / "full"
    append: Callable[[Journal, bytes], None] = Journal.append

    def refuse(journal: Journal, data: bytes) -> None:
        if mark.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(journal, data)

    monkeypatch.setattr(Journal, "append", refuse)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return mark


def left_alone(tmp_path: Path, full: Path) -> tuple[OpenWorkflow, int]:
    """The keeper of a supervisor that wrote one record and was gone; returns its pid."""
    workflow = workflow_of(job("never", "true"))
    opened = create_workflow(str(tmp_path), lambda new: first_record(workflow, new), "run", lambda text: None)
    full.touch()
    link = KeeperLink(
        KeeperSetup(opened.files, opened.state, opened.lock, WallTime()), opened.seq, lambda pid: None
    )
    link.write("t", 1.0, r.RunStarted(1, "here", os.getpid()))
    link.channel.flush()
    assert stdio_of(link.pid) != {os.devnull}
    link.close()
    return opened, link.pid


def stdio_of(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/fd/{descriptor}") for descriptor in (0, 1, 2)}


def test_p12_nobody_who_reads_what_a_supervisor_prints_waits_for_its_keeper(
    full: Path, tmp_path: Path
) -> None:
    """And what it has is written as soon as there is room."""
    opened, keeper = left_alone(tmp_path, full)
    waiting.wait_until(lambda: stdio_of(keeper) == {os.devnull}, "still has the caller's files")
    assert os.path.exists(opened.files.lock), "the workflow is locked"
    full.unlink()
    assert os.waitpid(keeper, 0)[1] == 0
    assert b'"event":"run_ended"' in Path(opened.files.journal).read_bytes()
    assert not os.path.exists(opened.files.lock)


def test_p12_a_keeper_that_cannot_write_gives_up_in_the_end(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "LIMIT", 0.0)
    opened, keeper = left_alone(tmp_path, full)
    assert os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) == 70
    kept = tmp_path / f"torc-supervise-1-{opened.lock.owner.nonce}.jsonl"
    text = kept.read_bytes()
    assert [name in text for name in (b'"event":"run_started"', b'"event":"run_ended"')] == [True, True]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"run_started" not in Path(opened.files.journal).read_bytes()
    assert os.path.exists(opened.files.lock), "it names two dead processes: who comes next takes it over"
