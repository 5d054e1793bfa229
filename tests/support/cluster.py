"""A private Slurm cluster for tests: submits, looks, waits, breaks things, and cleans up between tests."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from support import waiting
from support.sources import ROOT

SCRIPT = ROOT / "scripts" / "slurm-cluster"
NODES = ("node1", "node2", "node3")
LIMIT = 240.0
"""Seconds after which a wait fails its test: that something hangs, never how fast something is."""

ENDED = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
)
SLURMS_OWN = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
DAEMONS = ("munged", "slurmctld", "slurmd")


def missing() -> list[str]:
    """Programs that a cluster needs and that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    return [name for name in (*DAEMONS, "sbatch", "squeue") if shutil.which(name, path=path) is None]


def clean_environment() -> dict[str, str]:
    """Ours, without what a job that we may run in was told, and with the programs of our own Python first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SLURMS_OWN)}
    programs = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin"
    return environment | {"PATH": programs}


class Cluster:
    """Three nodes of 4 CPUs, 4000 MB and 2 GPUs: node1, node2, node3.  Partitions as docs/development.md says.

    Job ids are strings, as Slurm's commands take and give them.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.conf = directory / "slurm.conf"
        self.environment = clean_environment() | {"SLURM_CONF": str(self.conf)}
        self._script("up", f"--owner={os.getpid()}", *options, str(directory))
        self.keeper = int(json.loads((directory / "keeper.json").read_text())["pid"])
        self._pidfd = os.pidfd_open(self.keeper)

    def close(self) -> None:
        """Take it down."""
        os.close(self._pidfd)
        self._script("down", str(self.directory))

    # -- commands -----------------------------------------------------------------------------------------------

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        check: bool = True,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the login host, with this cluster's configuration."""
        done = subprocess.run(
            command,
            cwd=cwd or self.directory,
            env=self.environment | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def sbatch(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """Submit a script's text; returns the job id.  What it prints goes to ``slurm-ID.out`` in ``cwd``."""
        if not script.startswith("#!"):
            script = f"#!/bin/bash\n{script}\n"
        path = (cwd or self.directory) / f"script-{time.monotonic_ns()}.sh"
        path.write_text(script)
        return self.submit(*options, str(path), cwd=cwd)

    def submit(self, *arguments: str, cwd: Path | None = None) -> str:
        """``sbatch`` with these arguments; returns the job id."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd).stdout.strip().partition(";")[0]

    def scancel(self, job: str, *options: str) -> None:
        self.run("scancel", *options, job)

    def scontrol(self, *arguments: str) -> str:
        return self.run("scontrol", *arguments).stdout

    # -- looking ------------------------------------------------------------------------------------------------

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETING, COMPLETED, ..."""
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says, field by field."""
        return _fields(self.scontrol("--oneliner", "show", "job", job))

    def node(self, node: str) -> dict[str, str]:
        """What ``scontrol show node`` says, field by field; State is like IDLE, ALLOCATED or DOWN+NOT_RESPONDING."""
        return _fields(self.scontrol("--oneliner", "show", "node", node))

    def output(self, job: str) -> str:
        """What the batch script has printed."""
        path = Path(self.job(job)["StdOut"])
        return path.read_text() if path.exists() else ""

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], what: str | Callable[[], str]) -> None:
        """For what Slurm does not announce: looks again and again, until the one generous limit."""
        deadline = time.monotonic() + LIMIT
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        while not condition():
            message = what if isinstance(what, str) else what()
            assert time.monotonic() < deadline, message
            # Every look is a program that runs on the machine that the cluster needs, so there is a pause between
            # two; it ends at once when the cluster does.
            assert not poll.poll(100), "the cluster went down"

    def wait_until(self, job: str, *states: str) -> str:
        """Until the job is in one of these states, which it must not end without; returns which."""

        now = ""

        def arrived() -> bool:
            nonlocal now
            now = self.state(job)
            assert now in states or now not in ENDED, f"job {job} is {now}, not {states}\n{self.output(job)}"
            return now in states

        self.wait(arrived, lambda: f"job {job} is {now}, not one of {states}")
        return now

    def wait_for_end(self, job: str) -> str:
        """Until the job is over and its processes are gone; returns its final state."""
        return self.wait_until(job, *ENDED)

    def wait_for_node(self, node: str, state: str) -> None:
        """Until a node's state contains this word: IDLE, ALLOCATED, MIXED, DOWN, DRAIN, NOT_RESPONDING."""
        self.wait(lambda: state in self.node(node)["State"].split("+"), lambda: f"{node}: {self.node(node)}")

    # -- breaking things ----------------------------------------------------------------------------------------

    def drain(self, node: str) -> None:
        self.scontrol("update", f"nodename={node}", "state=drain", "reason=test")

    def down(self, node: str) -> None:
        """Declare a node down: Slurm ends what runs there, and requeues what may be requeued.

        A node that has not crashed answers the next time that Slurm asks, and so is back in service seconds later.
        """
        self.scontrol("update", f"nodename={node}", "state=down", "reason=test")

    def resume(self, node: str) -> None:
        # It is an error if the node has returned to service by itself.
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.wait(
            lambda: not {"DOWN", "DRAIN"} & set(self.node(node)["State"].split("+")),
            lambda: f"{node} does not return: {self.node(node)}",
        )

    def crash(self, node: str) -> None:
        """End slurmd and all that runs on the node, as if its power had gone; Slurm finds out by itself."""
        self._script("node", "crash", str(self.directory), node)

    def start_node(self, node: str) -> None:
        self._script("node", "start", str(self.directory), node)

    def stop_controller(self) -> None:
        """From now on sbatch, squeue and the like get no answer; jobs run on."""
        self._script("controller", "stop", str(self.directory))

    def start_controller(self) -> None:
        self._script("controller", "start", str(self.directory))

    # -- processes ----------------------------------------------------------------------------------------------

    def leftovers(self, node: str | None = None) -> list[psutil.Process]:
        """Processes of jobs, wherever they went, and slurmstepds; all of the cluster's but its daemons.

        Args:
            node: only those that are on this node.
        """
        try:
            keeper = psutil.Process(self.keeper)
            daemons = [x for x in keeper.children() if _alive(x) and _name(x) in DAEMONS]
            # slurmctld has a helper process of its own.
            spared = {*daemons, *(y for x in daemons if _name(x) == "slurmctld" for y in _children(x))}
            found = [x for x in keeper.children(recursive=True) if x not in spared and _alive(x)]
        except psutil.NoSuchProcess:
            return []
        if node is None:
            return found
        homes = {_host(x.pid): x for x in daemons if _name(x) == "slurmd" and node in _arguments(x)}
        return [x for x in found if _host(x.pid) in homes]

    # -- between tests ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """As new: no jobs, no processes, all nodes idle."""
        running = self._running_daemons()
        if "slurmctld" not in running:
            self.start_controller()
        for node in NODES:
            if node not in running:
                self.start_node(node)
        self.run("scancel", f"--user={os.geteuid()}")
        self.wait(self._is_empty, lambda: f"jobs do not end: {self.leftovers()}\n{self.run('squeue').stdout}")
        self.wait(self._is_idle, lambda: self.run("sinfo", "--Node", "--long").stdout)

    def said(self) -> str:
        """Jobs, nodes and the end of the daemons' logs, for the message of a test that failed.  Never fails itself."""
        parts = []
        for command in (
            ["squeue", "--states=all", "--format=%i %P %T %r %N %S %e"],
            ["sinfo", "--Node", "--long"],
            [str(SCRIPT), "logs", str(self.directory)],
        ):
            done = self.run(*command, check=False)
            parts.append(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        return "\n".join(parts)

    def _is_empty(self) -> bool:
        # Some jobs ignore SIGTERM; nobody wants to wait for KillWait here.  What Slurm has just forked is spared.
        slurms_own = ("slurmstepd", "slurmscriptd", *DAEMONS)
        waiting.kill_all(x.pid for x in self.leftovers() if _name(x) not in slurms_own)
        return not self.run("squeue", "--noheader").stdout and not self.leftovers()

    def _is_idle(self) -> bool:
        idle = True
        for line in self.run("sinfo", "--noheader", "--Node", "--format=%N %T").stdout.splitlines():
            node, state = line.split()
            if state != "idle":
                idle = False
                if state.startswith(("drain", "down")):
                    self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return idle

    def _running_daemons(self) -> set[str]:
        """Names of daemons that run, nodes by their own."""
        found = set()
        for process in filter(_alive, psutil.Process(self.keeper).children()):
            name = _name(process)
            if name == "slurmd":
                found |= set(NODES) & set(_arguments(process))
            elif name in DAEMONS:
                found.add(name)
        return found

    def _script(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            env=clean_environment() | {"PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * LIMIT,
            check=False,
        )
        assert done.returncode == 0, f"slurm-cluster {' '.join(arguments)}: {done.returncode}\n{done.stdout}"


def _fields(line: str) -> dict[str, str]:
    """``A=1 B=2 ...``; a value may hold blanks, but no field's name does."""
    fields: dict[str, str] = {}
    last = ""
    for word in line.split():
        name, equals, value = word.partition("=")
        if equals and name[:1].isupper():
            fields[name] = value
            last = name
        elif last:
            fields[last] += f" {word}"
    return fields


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _children(process: psutil.Process) -> Iterable[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _alive(process: psutil.Process) -> bool:
    return waiting.state_of(process.pid) not in ("Z", "X", None)


def _host(pid: int) -> str | None:
    """Which host a process believes to be on."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return None
