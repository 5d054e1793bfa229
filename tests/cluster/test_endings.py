"""How an allocation ends, and that everything is saved and recorded before it does (DESIGN section 4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.allocated import Site
from support.cluster import Cluster


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path)


def assert_saved(site: Site) -> None:
    """The promises of an ending: the work is saved, said to be, and every attempt has its one result."""
    assert (site.directory / "checkpoint").read_text() == "saved\n"
    result = site.result("train")
    assert (result["status"], result["ended"], result["checkpoint_saved"]) == ("terminated", "in_grace", True)
    assert site.journal.entries[-1]["event"] == "run_ended"


def go_on(site: Site) -> None:
    """The next allocation completes what this one began."""
    site.allocate("--time=2", what="1")
    ended = site.wait_for_end()
    assert ended["ExitCode"] == "0:0", site.said()
    assert {result["status"] for result in site.journal.results().values()} == {"completed"}


def test_scancel(site: Site) -> None:
    job = site.allocate("--time=5")
    site.wait_for_work()
    site.cluster.scancel(job)
    ended = site.wait_for_end()
    assert ended["JobState"] == "CANCELLED"
    assert_saved(site)
    assert "SIGTERM received" in site.said()
    assert "to go on: torc-supervise submit 1" in site.said()
    go_on(site)
