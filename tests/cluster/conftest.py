"""A private Slurm cluster for each worker, as good as new for each test.

All of it is skipped with one line where Slurm is not installed, and required where CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support import cluster as slurm
from support.cluster import Cluster

# Time limits of jobs, grace periods and requeue delays add up; a test that hangs fails by its own limit before.
TIMEOUT = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if missing := slurm.missing():
        message = f"needs Slurm (scripts/install-slurm); missing: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


class OneCluster:
    """Brought up for the first test that wants one, and anew after a test that broke it."""

    def __init__(self, directories: pytest.TempPathFactory) -> None:
        self._directories = directories
        self._made: Cluster | None = None

    def get(self) -> Cluster:
        if self._made is None:
            self._made = Cluster(self._directories.mktemp("cluster"))
        return self._made

    def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneCluster]:
    one = OneCluster(tmp_path_factory)
    yield one
    one.close()


@pytest.fixture
def cluster(one_cluster: OneCluster) -> Iterator[Cluster]:
    """Three idle nodes; whatever a test leaves there is ended after it."""
    cluster = one_cluster.get()
    yield cluster
    try:
        cluster.reset()
    except BaseException:
        one_cluster.close()
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What Slurm has to say about a failure."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections.append(("Slurm", cluster.said()))
    return report
