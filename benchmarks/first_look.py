"""A first look at speed: launch rate, end of many jobs, status of a large workflow, replay of its journal.

    python benchmarks/first_look.py [--jobs 10000]

Prints one JSON document with the medians and the machine's facts.  Run it on an idle machine; it takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "torc_supervise_cli"]


def workflow(directory: Path, count: int, command: str) -> Path:
    """A sweep of ``count`` equal jobs."""
    path = directory / "workflow.json"
    job = {
        "name": "job{i:06d}",
        "command": command,
        "parameters": {"i": f"1:{count}"},
        "supports_termination": True,
    }
    path.write_text(json.dumps({"name": "benchmark", "jobs": [job]}))
    return path


def timed(arguments: list[str], directory: Path) -> float:
    started = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], cwd=directory, capture_output=True, check=True)
    return time.perf_counter() - started


def launch_rate(directory: Path, count: int) -> float:
    """Jobs per second, 8 at a time, everything on."""
    path = workflow(directory, count, "true")
    return count / timed(["run", str(path), "--max-parallel-jobs", "8"], directory)


def status_seconds(directory: Path, arguments: list[str]) -> float:
    return statistics.median(timed(["status", *arguments], directory) for _ in range(9))


def replay_seconds(directory: Path) -> float:
    """Reading the whole journal back, without starting Python."""
    from torc_supervise.store.journal import replay

    started = time.perf_counter()
    replay(str(directory / "torc_output" / "workflows" / "1" / "events.jsonl"))
    return time.perf_counter() - started


def seconds_to_end(directory: Path, count: int) -> float:
    """From SIGTERM to the supervisor until it has left, with ``count`` jobs that die of the signal."""
    fifo = directory / "ready"
    os.mkfifo(fifo)
    path = workflow(directory, count, f"echo >{fifo}; exec sleep 1000")
    reader = os.open(fifo, os.O_RDWR)
    process = subprocess.Popen(
        [*COMMAND, "run", str(path), "--max-parallel-jobs", str(count)],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lines = 0
    while lines < count:
        lines += os.read(reader, 65536).count(b"\n")
    started = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait()
    os.close(reader)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as large, tempfile.TemporaryDirectory() as many:
        rate = launch_rate(Path(large), jobs)
        result = {
            "jobs": jobs,
            "launches_per_second": round(rate, 1),
            "status_seconds": round(status_seconds(Path(large), []), 4),
            "status_json_seconds": round(status_seconds(Path(large), ["-f", "json"]), 4),
            "replay_seconds": round(replay_seconds(Path(large)), 4),
            "sigterm_to_exit_seconds_300_jobs": round(seconds_to_end(Path(many), 300), 4),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
