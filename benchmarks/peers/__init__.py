"""What people could use instead, one file each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PLACE = Path(__file__).resolve().parents[2] / ".peers"  # made by scripts/benchmark-peers


def which(program: str) -> str | None:
    """Its absolute path, from .peers or PATH; None where it is not installed."""
    return shutil.which(program, path=f"{PLACE / 'bin'}:{os.environ['PATH']}")
