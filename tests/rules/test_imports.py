"""Data flows one way: the import table of DESIGN section 3."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import torc_supervise
from support.sources import PACKAGE, ROOT, files, imports, name

OURS = "torc_supervise."

# What each place may import of our own, everything else of ours being "below" or beside it.
MAY_IMPORT = {
    "workflow": {"workflow", "errors"},
    # The scheduler is as pure as the machine: ready set in, what to start out.
    "machine": {"machine", "exitstatus", "scheduler", "capacity", "workflow"},
    "scheduler.py": {"capacity", "ledger", "workflow"},
    "ledger.py": {"capacity", "workflow"},
    "capacity.py": {"workflow"},
    "exitstatus.py": set(),
    "errors.py": set(),
    "posix": {"posix", "exitstatus", "errors"},
    "store": {"store", "machine", "workflow", "errors"},
    "helpers": {"helpers", "machine", "store", "posix", "slurm", "workflow", "errors", "exitstatus"},
    "slurm": {"slurm", "capacity", "workflow", "posix", "store", "errors", "environment.py"},
    "environment.py": {"machine", "workflow", "slurm"},
    "launch.py": {"environment.py", "machine", "posix", "slurm", "store", "capacity", "workflow"},
    "loop.py": {"helpers", "launch.py", "machine", "posix", "workflow", "exitstatus"},
}

PURE = {"machine", "scheduler.py", "ledger.py", "capacity.py", "exitstatus.py"}

# Of the machine proper; signal is allowed for its numbers and names alone.
IMPURE = {
    *("os", "time", "logging", "selectors", "subprocess", "multiprocessing", "threading", "socket", "random"),
    *("datetime", "pathlib", "io", "shutil", "tempfile", "asyncio", "ctypes", "fcntl", "resource", "secrets"),
}
SIGNAL_NAMES = {"Signals", "SIGINT", "SIGKILL", "SIGCONT"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def targets(path: Path) -> set[str]:
    """Places of our own that a module imports."""
    found = set()
    for imported in imports(path):
        if imported.startswith(OURS):
            top = imported.removeprefix(OURS).split(".")[0]
            if (PACKAGE / top).is_dir():
                found.add(top)
            elif (PACKAGE / f"{top}.py").exists():
                found.add(f"{top}.py")
    return found


GOVERNED = [path for path in files("supervisor") if place(path) in MAY_IMPORT]


@pytest.mark.parametrize("path", GOVERNED, ids=name)
def test_a_module_imports_only_what_its_place_may(path: Path) -> None:
    allowed = {
        x if x.endswith(".py") or (PACKAGE / x).is_dir() else f"{x}.py" for x in MAY_IMPORT[place(path)]
    }
    assert targets(path) <= allowed


def test_every_place_is_in_the_table() -> None:
    """operations/ joins everything for the command line, so it may import all; nothing below may import it."""
    known = {*MAY_IMPORT, "operations", "__init__.py", "__pycache__", "py.typed"}
    assert {entry.name for entry in PACKAGE.iterdir()} <= known


@pytest.mark.parametrize("path", [p for p in GOVERNED if place(p) in PURE], ids=name)
def test_the_pure_core_imports_no_io(path: Path) -> None:
    found = set(imports(path))
    assert not {imported.split(".")[0] for imported in found} & IMPURE
    assert {x for x in found if x.startswith("signal")} <= {f"signal.{x}" for x in SIGNAL_NAMES}
    third_party = {x.split(".")[0] for x in found} - sys.stdlib_module_names - {"torc_supervise"}
    assert third_party <= {"msgspec"}, (
        "for the declaration of its values; else the standard library is enough"
    )


def test_the_table_itself_would_catch_an_offender() -> None:
    """Control: the scan sees imports inside functions, and from-imports of modules."""
    assert "helpers" in targets(PACKAGE / "loop.py")
    assert "time" in {x.split(".")[0] for x in imports(PACKAGE / "posix" / "clock.py")}


@pytest.mark.parametrize("path", files("cli"), ids=name)
def test_the_command_line_uses_public_names_only(path: Path) -> None:
    public = {f"torc_supervise.{x}" for x in torc_supervise.__all__} | {"torc_supervise.__version__"}
    ours = {x for x in imports(path) if x == "torc_supervise" or x.startswith(OURS)}
    assert ours - public - {"torc_supervise"} == set()


def test_the_library_never_imports_its_command_line() -> None:
    theirs = {"torc_supervise_cli", "typer", "rich"}
    assert [p for p in files("supervisor") if {x.split(".")[0] for x in imports(p)} & theirs] == []


def test_only_the_command_line_and_the_library_are_installed() -> None:
    packages = {p.parent for p in (ROOT / "supervisor").glob("*/__init__.py")}
    packages |= {p.parent for p in (ROOT / "cli").glob("*/__init__.py")}
    assert {p.name for p in packages} == {"torc_supervise", "torc_supervise_cli"}
