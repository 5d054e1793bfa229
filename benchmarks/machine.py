"""Facts about the machine that figures mean nothing without."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Any


def facts(directory: Path | None = None) -> dict[str, Any]:
    """``directory``: where jobs will write, None for the usual place."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "file_system": _file_system(os.path.realpath(directory or tempfile.gettempdir())),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


def _file_system(directory: str) -> str:
    """Its kind: ext4, tmpfs, nfs ..."""
    best, kind = "", "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            point = fields[4]
            inside = directory == point or directory.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, fields[fields.index("-") + 1]
    return kind
