"""xargs -P: a launcher, no supervisor; it passes no signal on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.peers import which

NAME = "xargs -P"


def installed() -> bool:
    return which("xargs") is not None


def launch(directory: Path, count: int, at_a_time: int) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["xargs", f"-P{at_a_time}", "-n1", "bash", "-c", f"true >{directory}/$0.o 2>{directory}/$0.e"],
        input="".join(f"{i}\n" for i in range(count)).encode(),
        check=True,
    )
    return time.perf_counter() - began
