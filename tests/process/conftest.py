"""Every test of this directory starts a real supervisor and real jobs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.supervised import Bench
from torc_supervise.posix import cgroups, marks, procfs
from torc_supervise.posix.procfs import ProcessStat


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments are read in this process, and its forks, until they can be.

    Race: the thread that reads is held up for longer than ``marks.PATIENCE``, or what it looks at is on its way to an
    exec, and so at the next look.  Then the process is taken for one without an environment, rightly.
    """
    read = marks.environment_block

    def until_it_can_be(about: ProcessStat) -> bytes | None:
        deadline = time.monotonic() + waiting.LIMIT
        block = read(about)
        # (Kernel threads have no session.)
        while block is None and about.sid > 1 and time.monotonic() < deadline:
            now = procfs.stat(about.pid)
            if now is None or now.start_ticks != about.start_ticks:
                return b""
            block = read(now)
        return block

    monkeypatch.setattr(marks, "environment_block", until_it_can_be)


@pytest.fixture
def needs_cgroups() -> None:
    made = cgroups.make(uuid.uuid4().hex)
    if made is None:
        pytest.skip("no cgroup (v2) can be made here")
    made.remove()
