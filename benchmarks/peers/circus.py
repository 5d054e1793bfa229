"""circus, from PyPI."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import which

NAME = "circus"


def installed() -> bool:
    return which("circusd") is not None


def fan(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    conf = directory / "circus.ini"
    conf.write_text(
        f"[circus]\nendpoint=ipc://{directory}/e\npubsub_endpoint=ipc://{directory}/p\ncheck_delay=1\n"
        f"[watcher:child]\ncmd={shlex.join(words)}\nnumprocesses={count}\nrespawn=False\ngraceful_timeout=60\n"
        f"stop_signal={int(signum)}\n"
    )
    command = [which("circusd") or "circusd", str(conf)]
    return Fan(subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
