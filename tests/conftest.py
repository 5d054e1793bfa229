"""What holds for all tests: what needs root is skipped elsewhere with one line, and required in CI."""

from __future__ import annotations

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") is None or os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("needs root, and CI has to run it")
    pytest.skip("needs root")
