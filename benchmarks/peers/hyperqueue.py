"""HyperQueue, from PyPI: a server and one worker of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import which

NAME = "HyperQueue"


def installed() -> bool:
    return which("hq") is not None


def launch(directory: Path, count: int, at_a_time: int) -> None:
    server, worker = _start(directory, at_a_time)
    try:
        _submit(directory, count, ["bash", "-c", "true"], "--wait")
    finally:
        _stop(server, worker)


def fan(directory: Path, count: int, words: list[str]) -> Fan:
    """The worker is what is signalled: it ends its tasks."""
    server, worker = _start(directory, count)
    _submit(directory, count, words)
    return Fan(worker, lambda: _stop(server, worker))


def _start(directory: Path, cpus: int) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
    server = subprocess.Popen(_hq(directory, "server", "start"), **quiet)  # type: ignore[call-overload]
    # "server wait" is told by the server itself.
    subprocess.run(_hq(directory, "server", "wait"), check=True, **quiet)  # type: ignore[call-overload]
    command = _hq(directory, "worker", "start", f"--cpus={cpus}")
    worker = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    return server, worker


def _submit(directory: Path, count: int, words: list[str], *options: str) -> None:
    command = _hq(directory, "submit", f"--array=1-{count}", "--cpus=1", *options, "--", *words)
    subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=True)


def _stop(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def _hq(directory: Path, *words: str) -> list[str]:
    return [which("hq") or "hq", "--server-dir", os.fspath(directory / "hq"), *words]
