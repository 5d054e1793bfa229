from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cli import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = Cli(tmp_path)
    yield made
    made.close()


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[[str], Cli]]:
    """A copy of all examples, and the command line in one of them."""

    def enter(name: str) -> Cli:
        target = tmp_path / "examples"
        outputs = shutil.ignore_patterns("torc_output", "checkpoints", "output", "results", "__pycache__")
        shutil.copytree(EXAMPLES, target, ignore=outputs)
        made.append(Cli(target / name))
        return made[-1]

    made: list[Cli] = []
    yield enter
    for cli in made:
        cli.close()
