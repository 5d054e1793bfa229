"""GNU parallel.  At the first SIGTERM it waits for its jobs; at the second one it ends them, as --termseq says."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import which

NAME = "GNU parallel"


def installed() -> bool:
    found = which("parallel")
    if found is None:
        return False
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return said.startswith("GNU parallel")


def launch(directory: Path, count: int, at_a_time: int) -> float:
    numbers = "".join(f"{i}\n" for i in range(count))
    began = time.perf_counter()
    subprocess.run(
        [
            "parallel",
            "--will-cite",
            f"-j{at_a_time}",
            "--results",
            str(directory / "out"),
            "true {#}",
        ],
        input=numbers.encode(),
        env=_environment(directory),
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def fan(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    feed = directory / "numbers"
    feed.write_text("".join(f"{i}\n" for i in range(count)))
    # A signal is sent to the wrapper, which sends it twice: parallel itself only stops starting after the first.
    wrapper = "trap 'kill -TERM $child; kill -TERM $child' TERM; \"$@\" & child=$!; wait $child; wait $child; exit 0"
    command = [
        "parallel",
        "--will-cite",
        f"-j{count}",
        "--termseq",
        "TERM,30000,KILL,25" if signum == signal.SIGTERM else "KILL,25",
        "-a",
        str(feed),
    ]
    process = subprocess.Popen(
        ["bash", "-c", wrapper, "bash", *command, f"exec {shlex.join(words)} {{= $_='' =}}"],
        env=_environment(directory),
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Fan(process)


def _environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PARALLEL_HOME": str(directory / "home"),
        "HOME": str(directory),
        "PARALLEL_SHELL": "/bin/bash",
    }
