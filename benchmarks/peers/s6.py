"""s6: s6-svscan with one service directory a child."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import which

NAME = "s6"


def installed() -> bool:
    return which("s6-svscan") is not None


def fan(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    scan = directory / "scan"
    for i in range(count):
        service = scan / f"child{i}"
        service.mkdir(parents=True)
        (service / "run").write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
        (service / "run").chmod(0o755)
        (service / "finish").write_text("#!/bin/sh\nexit 125\n")  # not to be started again
        (service / "finish").chmod(0o755)
        (service / "down-signal").write_text(f"{int(signum)}\n")
    command = [which("s6-svscan") or "s6-svscan", "-c", str(count + 10), str(scan)]
    return Fan(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
