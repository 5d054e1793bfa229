"""HyperQueue, from PyPI: a server and one worker of this machine."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import PLACE

NAME = "HyperQueue"
_PYTHON = PLACE / "bin" / "python"
_DRIVER = Path(__file__).with_name("hyperqueue_driver.py")  # -I: beside it is a hyperqueue.py, this one


def installed() -> bool:
    return any(PLACE.glob("lib/python*/site-packages/hyperqueue"))


def launch(directory: Path, count: int, at_a_time: int) -> float:
    command = _command("launch", directory, count, at_a_time, ["/bin/bash", "-c", "true"])
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return float(done.stdout.splitlines()[-1])


def fan(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    """It has SIGINT for its tasks, whatever is wanted."""
    command = _command("fan", directory, count, count, words)
    return Fan(subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def _command(what: str, directory: Path, count: int, cpus: int, words: list[str]) -> list[str]:
    return [str(_PYTHON), "-I", str(_DRIVER), what, str(directory), str(count), str(cpus), *words]
