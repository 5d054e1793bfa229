"""Floors: small C programs that do the bare work, compiled when they are needed."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "floors"


@functools.cache
def _directory() -> Path:
    """Kept for the life of the process."""
    return Path(_KEPT.name)


_KEPT = tempfile.TemporaryDirectory(prefix="floors-")


@functools.cache
def program(name: str) -> str:
    """Path of the compiled ``floors/NAME.c``.

    Raises:
        SystemExit: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the floors are C programs, and no compiler (cc, gcc) was found")
    target = _directory() / name
    subprocess.run([compiler, "-O2", "-o", str(target), str(SOURCES / f"{name}.c")], check=True)
    return str(target)
