"""A private Slurm cluster for each worker, as good as new for each test.

Skipped with one line where Slurm is not installed, and required where CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import cluster as slurm
from support.cluster import Cluster

# Time limits of jobs, grace periods and requeue delays add up; a test that hangs fails by its own limit before.
TIMEOUT = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := slurm.missing():
        message = f"needs Slurm (scripts/install-slurm); missing: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """Three idle nodes; whatever a test leaves there is ended after it."""
    yield _cluster
    _cluster.reset()
