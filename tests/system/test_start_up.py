"""What is imported before anything happens: counted, not timed, so that a busy machine does not matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WITHIN = 100.0
MAIN = "from torc_supervise_cli.main import main; main()"
WHAT_TO_DO = (
    "import it inside the function that needs it, or do without: see docs/performance.md or decisions/0024"
)

# Of packages, what is below them as well.
SLOW_FOR_ALL = {
    *("typer", "click", "rich", "pydantic", "pydantic_core", "markdown_it", "pygments", "shellingham"),
    *("ruamel", "psutil", "asyncio", "logging", "argparse", "email", "http", "ssl", "unittest", "concurrent"),
    *("pathlib", "urllib", "secrets", "hashlib", "hmac", "random", "tempfile", "difflib"),
}
SLOW_FOR_RUN = {"inspect", "ast", "tokenize", "dataclasses", "traceback"}
SLOW_FOR_STATUS = {
    *("typing", "typing_extensions", "msgspec", "inspect", "dataclasses", "uuid", "decimal"),
    *("socket", "selectors", "subprocess", "multiprocessing", "threading", "shutil", "datetime", "ctypes"),
}
# Modules of our own: a little more than there were when this was written.
MOST_FOR_STATUS = 16
MOST_FOR_RUN = 165


def imported(directory: Path, code: str, *arguments: str) -> set[str]:
    """Names of all modules that the command and the processes it forks import."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=True,
    )
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def slow(modules: set[str], names: set[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] in names}


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.startswith("torc_supervise")}


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What this interpreter imports whatever it runs."""
    return imported(tmp_path_factory.getbasetemp(), "pass")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("start_up")
    jobs = [{"name": "one", "command": "true"}]
    (made / "w.json").write_text(json.dumps({"name": "w", "jobs": jobs}))
    return made


@pytest.fixture(scope="module")
def of_run(directory: Path, always: set[str]) -> set[str]:
    return imported(directory, MAIN, "run", "w.json") - always


def test_run_imports_nothing_slow_that_it_does_not_need(of_run: set[str]) -> None:
    assert slow(of_run, SLOW_FOR_ALL | SLOW_FOR_RUN) == set(), WHAT_TO_DO
    assert len(ours(of_run)) <= MOST_FOR_RUN, WHAT_TO_DO


@pytest.mark.usefixtures("of_run")
@pytest.mark.parametrize("options", [(), ("-f", "json")])
def test_status_imports_next_to_nothing(directory: Path, always: set[str], options: tuple[str, ...]) -> None:
    modules = imported(directory, MAIN, "status", *options) - always
    assert slow(modules, SLOW_FOR_ALL | SLOW_FOR_STATUS) == set(), WHAT_TO_DO
    assert len(ours(modules)) <= MOST_FOR_STATUS, WHAT_TO_DO


def test_control_the_way_through_typer_is_seen(directory: Path, always: set[str]) -> None:
    assert "typer" in slow(imported(directory, MAIN, "list") - always, SLOW_FOR_ALL)
