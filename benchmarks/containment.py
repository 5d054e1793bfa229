"""What is left of ten jobs when their supervisor is told to stop, and when it is killed: ours beside others.

    scripts/benchmark-peers                   # once: what is to be compared with (apt and pip; as root)
    python -m benchmarks.containment [--only NAME]

Each job leaves a child in its process group, a child in a session of its own, and a daemon (forked twice, in a session
of its own), and goes on: 40 processes.  Each supervisor runs in a PID namespace of its own, so that nothing of one is
left for the next.  Prints a table for docs/containment.md; what is not installed is said so.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import PLACE, which

JOBS = 10
PROCESSES = 4 * JOBS
PATIENCE = 60.0  # seconds for a supervisor to start its jobs, and to end
SETTLED_AFTER = 10.0  # seconds without a change after which what is left is counted

JOB = """\
sleep {seconds} &
setsid sleep {seconds} &
( setsid sh -c 'sleep {seconds} & exit' & )
exec sleep {seconds}
"""

# The first process of the namespace: adopts and reaps what is abandoned, as init does.
INIT = '"$@" & child=$!; while ! [ -e {stop} ]; do wait -n || read -rt 0.1 _ <>{idle}; done'


@dataclass(frozen=True)
class Peer:
    """``prepare`` writes what it needs into a directory and returns its command line, None if it is not installed.

    ``stop``: signals that ask it to end, one after another as long as it is there.
    """

    name: str
    prepare: Callable[[Path, Path], list[str] | None]
    stop: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    remark: str = ""
    hide_cgroups: bool = False
    has_keeper: bool = False


def ours(directory: Path, job: Path, isolation: str = "none") -> list[str]:
    jobs = [
        {
            "name": "job{i}",
            "command": f"bash {job}",
            "parameters": {"i": f"1:{JOBS}"},
            "supports_termination": True,
        }
    ]
    workflow = {"name": "containment", "jobs": jobs, "execution_config": {"isolation": isolation}}
    (directory / "workflow.json").write_text(json.dumps(workflow))
    return [
        sys.executable,
        "-m",
        "torc_supervise_cli",
        "run",
        "workflow.json",
        "--max-parallel-jobs",
        str(JOBS),
    ]


def ours_isolated(directory: Path, job: Path) -> list[str]:
    return ours(directory, job, "pid_namespace")


def parallel(directory: Path, job: Path) -> list[str] | None:
    found = which("parallel")
    return (
        [found, "--will-cite", f"-j{JOBS}", "bash", f"{job} #", ":::", *map(str, range(JOBS))]
        if found
        else None
    )


def supervisord(directory: Path, job: Path, options: str = "") -> list[str] | None:
    found = which("supervisord")
    if not found:
        return None
    text = f"[supervisord]\nnodaemon=true\nlogfile={directory}/log\npidfile={directory}/pid\n"
    for i in range(JOBS):
        text += f"[program:job{i}]\ncommand=bash {job}\n{options}"
    (directory / "supervisord.conf").write_text(text)
    return [found, "-c", str(directory / "supervisord.conf")]


def supervisord_groups(directory: Path, job: Path) -> list[str] | None:
    return supervisord(directory, job, "stopasgroup=true\nkillasgroup=true\n")


def circus(directory: Path, job: Path) -> list[str] | None:
    found = which("circusd")
    if not found:
        return None
    text = "[circus]\nendpoint = ipc://ctl\npubsub_endpoint = ipc://pub\nstats_endpoint = ipc://stats\n"
    for i in range(JOBS):
        text += f"[watcher:job{i}]\ncmd = bash {job}\ncopy_env = True\ngraceful_timeout = 3\n"
    (directory / "circus.ini").write_text(text)
    return [found, "circus.ini"]


def services(directory: Path, job: Path) -> Path:
    """One directory per service, as s6 and runit want it."""
    for i in range(JOBS):
        run = directory / "services" / f"job{i}" / "run"
        run.parent.mkdir(parents=True)
        run.write_text(f"#!/bin/sh\nexec bash {job}\n")
        run.chmod(0o755)
    return directory / "services"


def s6(directory: Path, job: Path) -> list[str] | None:
    found = which("s6-svscan")
    return [found, str(services(directory, job))] if found else None


def runit(directory: Path, job: Path) -> list[str] | None:
    found = which("runsvdir")
    return [found, str(services(directory, job))] if found else None


# PyPI's package has no command line: server and worker are in the program that uses it.
HYPERQUEUE = """\
import os, signal, sys
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
place, command, count = sys.argv[1] + "/hq", sys.argv[2], int(sys.argv[3])
os.mkdir(place)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
with LocalCluster(place, WorkerConfig(cores=count)) as cluster:
    job = Job()
    for _ in range(count):
        job.program(["bash", command])
    cluster.client().submit(job)
    while True:
        signal.pause()
"""


def hyperqueue(directory: Path, job: Path) -> list[str] | None:
    python = PLACE / "bin" / "python"
    if not any(PLACE.glob("lib/python3*/site-packages/hyperqueue")):
        return None
    (directory / "start.py").write_text(HYPERQUEUE)
    return [str(python), str(directory / "start.py"), str(directory), str(job), str(JOBS)]


ALL = (
    Peer("torc-supervise", ours, has_keeper=True),
    Peer("torc-supervise, no cgroups", ours, hide_cgroups=True, has_keeper=True),
    Peer("torc-supervise, pid_namespace", ours_isolated, hide_cgroups=True, has_keeper=True),
    Peer("GNU parallel", parallel, (signal.SIGTERM,) * 2, "the second SIGTERM ends running jobs"),
    Peer("supervisord", supervisord),
    Peer("supervisord, stopasgroup", supervisord_groups),
    Peer("circus", circus),
    Peer("s6-svscan", s6),
    Peer("runsvdir", runit, (signal.SIGHUP,), "SIGHUP is its way to stop services"),
    Peer("HyperQueue", hyperqueue, remark="the program stops its LocalCluster"),
)


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def count(seconds: str) -> int:
    """Living processes with this argument."""
    needle, found = f"sleep\0{seconds}\0".encode(), 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and Path(f"/proc/{name}/cmdline").read_bytes() == needle:
                found += 1
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def started(peer: Peer, command: list[str], directory: Path) -> Iterator[int]:
    """Run it in a namespace of its own; yields the pid of what has made the namespace."""
    os.mkfifo(directory / "idle")
    init = INIT.format(stop=directory / "stop", idle=directory / "idle")
    hide = "mount -t tmpfs none /sys/fs/cgroup; " if peer.hide_cgroups else ""
    options = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    with open(directory / "said", "wb") as said:
        namespace = subprocess.Popen(
            ["unshare", *user, *options, "bash", "-c", hide + init, "init", *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield namespace.pid
    finally:
        namespace.kill()
        namespace.wait()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def forks(pid: int) -> list[int]:
    """Helpers: children of a process that never called exec."""
    own = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [child for child in children(pid) if Path(f"/proc/{child}/cmdline").read_bytes() == own]


def left(
    peer: Peer, signals: tuple[signal.Signals, ...], number: int, *, with_keeper: bool = False
) -> int | None:
    """Processes that are left of the jobs, None where the peer is not there."""
    seconds = f"{100000 + os.getpid()}.{number}"
    with tempfile.TemporaryDirectory(prefix="containment-") as name:
        directory = Path(name)
        job = directory / "job.sh"
        job.write_text(JOB.format(seconds=seconds))
        command = peer.prepare(directory, job)
        if command is None:
            return None
        with started(peer, command, directory) as namespace:
            until = time.monotonic() + PATIENCE
            while count(seconds) < PROCESSES:
                if time.monotonic() > until:
                    said = (directory / "said").read_text(errors="replace")
                    raise SystemExit(
                        f"{peer.name} has started {count(seconds)} of {PROCESSES} processes:\n{said}"
                    )
                pause(0.05)
            (init,) = children(namespace)
            pid = children(init)[0]  # before what init has adopted
            for helper in forks(pid) if with_keeper else ():
                os.kill(helper, signal.SIGSTOP)  # it is not to see the other one's end
                os.kill(helper, signal.SIGKILL)
            for signum in signals:
                os.kill(pid, signum)
                pause(0.5)
                if not alive(pid):
                    break
            until = time.monotonic() + PATIENCE
            while alive(pid) and time.monotonic() < until:
                pause(0.05)
            return settled(seconds)


def settled(seconds: str) -> int:
    """The count when it has not changed for a while."""
    last, since = count(seconds), time.monotonic()
    while last and time.monotonic() - since < SETTLED_AFTER:
        pause(0.2)
        now = count(seconds)
        if now != last:
            last, since = now, time.monotonic()
    return last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names that contain this")
    only = parser.parse_args().only or ""
    print("| supervisor | told to stop | killed by SIGKILL | killed with its keeper |\n|---|---|---|---|")
    print(f"| before | {PROCESSES} | {PROCESSES} | {PROCESSES} |")
    for number, peer in enumerate(peer for peer in ALL if only in peer.name):
        asked = left(peer, peer.stop, 3 * number)
        killed = left(peer, (signal.SIGKILL,), 3 * number + 1)
        both = "-"
        if peer.has_keeper:
            both = str(left(peer, (signal.SIGKILL,), 3 * number + 2, with_keeper=True))
        if asked is None or killed is None:
            print(f"| {peer.name} | not installed | | |", flush=True)
            continue
        remark = f" ({peer.remark})" if peer.remark else ""
        print(f"| {peer.name} | {asked}{remark} | {killed} | {both} |", flush=True)


if __name__ == "__main__":
    main()
