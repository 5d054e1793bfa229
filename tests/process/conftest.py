"""Every test of this directory starts a real supervisor and real jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.supervised import Bench
from torc_supervise.posix import cgroups


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def needs_cgroups() -> None:
    made = cgroups.make(uuid.uuid4().hex)
    if made is None:
        pytest.skip("no cgroup (v2) can be made here")
    made.remove()
