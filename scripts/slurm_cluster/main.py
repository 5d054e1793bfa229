"""The commands of ``scripts/slurm-cluster``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from slurm_cluster import processes
from slurm_cluster.conf import NODES, Options
from slurm_cluster.daemons import program
from slurm_cluster.errors import ClusterError
from slurm_cluster.keeper import start_keeper
from slurm_cluster.network import ensure_address
from slurm_cluster.place import find_keeper, find_place, new_place

SLURMS_OWN = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
"""How the variables begin that Slurm's commands take options from, or that it sets for jobs."""

ANSWER_LIMIT = 120.0
"""Seconds for a request to the keeper; it bounds its own waits more tightly."""


def main(arguments: Sequence[str]) -> int:
    _open_standard_streams()
    # Where the caller's caller ignores it, nobody could wait for a child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.function(chosen)
    except ClusterError as error:
        print(f"slurm-cluster: {error}", file=sys.stderr)
        return 1
    return code


def _open_standard_streams() -> None:
    """Where the caller closed some, other files would get their numbers, and messages or input go there."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slurm-cluster", description="A private Slurm cluster on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    tuning = argparse.ArgumentParser(add_help=False)
    tuning.add_argument("--kill-wait", type=int, default=Options.kill_wait, metavar="S", help="KillWait")
    tuning.add_argument(
        *("--grace-time",),
        type=int,
        default=Options.grace_time,
        metavar="S",
        help="GraceTime of the partition 'graceful'",
    )
    tuning.add_argument(
        *("--requeue-delay",),
        type=int,
        default=Options.requeue_delay,
        metavar="S",
        help="how long a requeued job waits; must be some seconds more than KillWait",
    )
    tuning.add_argument(
        "--slurmd-timeout", type=int, default=Options.slurmd_timeout, metavar="S", help="SlurmdTimeout"
    )
    tuning.add_argument(
        "--conf", action="append", default=[], metavar="LINE", help="one more line for slurm.conf; repeatable"
    )

    up = commands.add_parser("up", parents=[tuning], help="bring a cluster up in a directory")
    up.add_argument("--owner", type=int, metavar="PID", help="take it down when this process ends")
    up.add_argument("directory", type=Path)
    up.set_defaults(function=_up)

    run = commands.add_parser("run", parents=[tuning], help="run a command on a cluster of its own")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND...")
    run.set_defaults(function=_run)

    down = commands.add_parser("down", help="end a cluster and everything that runs on it")
    down.add_argument("directory", type=Path)
    down.set_defaults(function=_down)

    logs = commands.add_parser("logs", help="print the last lines of what its daemons logged")
    logs.add_argument("directory", type=Path)
    logs.set_defaults(function=_logs)

    controller = commands.add_parser("controller", help="stop or start slurmctld")
    controller.add_argument("verb", choices=["stop", "start"])
    controller.add_argument("directory", type=Path)
    controller.set_defaults(function=lambda x: _ask(x.directory, f"{x.verb} slurmctld"))

    node = commands.add_parser("node", help="end a node with all that runs on it, or start its slurmd again")
    node.add_argument("verb", choices=["crash", "start"])
    node.add_argument("directory", type=Path)
    node.add_argument("node", choices=NODES)
    node.set_defaults(function=lambda x: _ask(x.directory, f"{x.verb} {x.node}"))
    return parser


def _options(chosen: argparse.Namespace) -> Options:
    return Options(
        chosen.kill_wait, chosen.grace_time, chosen.requeue_delay, chosen.slurmd_timeout, chosen.conf
    )


# -- up and down ------------------------------------------------------------------------------------------------


def bring_up(directory: Path, options: Options, owner: int | None) -> Path:
    """Bring a cluster up; returns the path of its configuration."""
    for name in ("munged", "slurmctld", "slurmd", "sinfo"):
        program(name)
    ensure_address()
    place = new_place(directory)
    try:
        warning = start_keeper(place, options, owner)
    except ClusterError as error:
        raise ClusterError(f"the cluster in {directory} does not come up: {error}") from None
    if warning is not None:
        print(f"slurm-cluster: {warning}", file=sys.stderr)
    return place.conf


def take_down(directory: Path) -> None:
    """End it, also where its keeper has been killed."""
    place = find_place(directory)
    keeper = find_keeper(directory.absolute())
    if keeper is not None:
        try:
            pidfd = os.pidfd_open(keeper.pid)
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has just ended by itself
        else:
            if not processes.wait_for_end([pidfd], 2 * processes.LIMIT):
                raise ClusterError(f"its keeper, process {keeper.pid}, does not end")
            os.close(pidfd)
    # Nothing is left here unless the keeper was killed: what it owned is then known by its environment alone.
    while left := processes.marked(place.conf):
        if not processes.end(left):
            raise ClusterError(f"SIGKILL does not end {left}")
    place.remove_short()


def _up(chosen: argparse.Namespace) -> int:
    conf = bring_up(chosen.directory, _options(chosen), chosen.owner)
    print(f"export SLURM_CONF={shlex.quote(str(conf))}")
    print("# then sinfo, sbatch, srun ... use it; the end of it:", file=sys.stderr)
    print(f"# scripts/slurm-cluster down {shlex.quote(str(chosen.directory))}", file=sys.stderr)
    return 0


def _down(chosen: argparse.Namespace) -> int:
    take_down(chosen.directory)
    return 0


def _logs(chosen: argparse.Namespace) -> int:
    print(find_place(chosen.directory).last_lines())
    return 0


def _ask(directory: Path, request: str) -> int:
    """Have the keeper do something, and wait until it is done."""
    place = find_place(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_LIMIT)
        try:
            connection.connect(str(place.control_socket))
            connection.sendall(f"{request}\n".encode())
            answer = connection.makefile("r", encoding="utf-8").readline().strip()
        except OSError as error:
            raise ClusterError(f"the cluster in {directory} does not answer: {error}") from None
    if answer != "ok":
        raise ClusterError(answer or "the cluster went down meanwhile")
    return 0


# -- run --------------------------------------------------------------------------------------------------------


def _run(chosen: argparse.Namespace) -> int:
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        raise ClusterError("run what? slurm-cluster run [--] COMMAND...")
    directory = Path(tempfile.mkdtemp(prefix="slurm-cluster-"))
    try:
        conf = bring_up(directory, _options(chosen), os.getpid())
        try:
            return _run_command(command, conf)
        finally:
            take_down(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run_command(command: list[str], conf: Path) -> int:
    # Of a job that we may be in ourselves nothing must leak into the jobs of this cluster.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SLURMS_OWN)}
    with _forwarding() as forward:
        try:
            process = subprocess.Popen(command, env=environment | {"SLURM_CONF": str(conf)})
        except OSError as error:
            raise ClusterError(f"{command[0]}: {error.strerror}") from None
        forward.append(process)
        code = process.wait()
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _forwarding() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The command decides what signals do.  Those of a terminal's keys it gets by itself; others are passed on."""
    targets: list[subprocess.Popen[bytes]] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        if signum not in (signal.SIGINT, signal.SIGQUIT):
            for process in targets:
                process.send_signal(signum)

    before = {
        number: signal.signal(number, forward)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
    }
    yield targets
    for number, handler in before.items():
        signal.signal(number, handler)
