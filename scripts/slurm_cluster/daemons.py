"""The daemons of one cluster: start, wait until they serve, stop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slurm_cluster import processes
from slurm_cluster.conf import CONTROLLER, NODES, Options, gres_conf, hosts, slurm_conf
from slurm_cluster.errors import ClusterError
from slurm_cluster.place import Place
from slurm_cluster.ports import Ports
from slurm_cluster.spawn import spawn, why_no_own_host

STARTUP = 60.0
"""Seconds for each daemon to serve.  It takes a second in all; on a machine that is busy otherwise, more."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DaemonDied(ClusterError):
    """A daemon ended while it was waited for: another attempt, with other ports, may do better."""


@dataclass
class Daemon:
    name: str
    pid: int
    pidfd: int


def program(name: str) -> str:
    """Absolute path of one of Slurm's or munge's programs.  The daemons are where an ordinary PATH does not lead."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    found = shutil.which(name, path=path)
    if found is None:
        raise ClusterError(f"{name} is not installed; as root: scripts/install-slurm")
    return found


class Daemons:
    """munged, slurmctld and one slurmd per node.

    Args:
        pause: called between two looks at something that nothing announces; returns when something happened to our
            processes, or a little later.
    """

    def __init__(self, place: Place, options: Options, pause: Callable[[], None]) -> None:
        self._place = place
        self._options = options
        self._pause = pause
        self._ports = Ports()
        self._port_of: dict[str, int] = {}
        self.running: dict[str, Daemon] = {}
        # Why there is only one host name for all, if so.
        self.warning: str | None = None
        self.environment = {
            "PATH": SYSTEM_PATH,
            "SLURM_CONF": str(place.conf),
            "HOME": "/",
            "LANG": "C.UTF-8",
        }

    def configure(self) -> None:
        """Write all files, with new ports."""
        place = self._place
        self._ports.release()
        self._port_of = {name: self._ports.take() for name in ("slurmctld", *NODES)}
        place.remove_short()
        place.short.mkdir()
        # Clients of other users may come to the socket, as they may to a system's munged.
        place.short.chmod(0o755)
        (place.short / "spool").mkdir()
        (place.short / "state").mkdir(mode=0o700)
        with open(os.open(place.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key:
            key.write(os.urandom(1024))
        place.hosts.write_text(hosts())
        place.gres.write_text(gres_conf())
        why = why_no_own_host(place.hosts)
        self.warning = why and f"all nodes have this machine's host name: {why}"
        host = socket.gethostname().partition(".")[0] if why else None
        place.conf.write_text(slurm_conf(place, list(self._port_of.values()), self._options, host))

    def start_all(self) -> None:
        self._start("munged", CONTROLLER, self._munged())
        self._wait("munged", lambda: _answers(str(self._place.munge_socket)))
        self.start_controller()
        for node in NODES:
            self.start_node(node, wait=False)
        self._wait_for_nodes(NODES)

    def start_controller(self) -> None:
        self._start("slurmctld", CONTROLLER, [program("slurmctld"), "-D", "-f", str(self._place.conf)])
        self._wait("slurmctld", lambda: _answers(("127.0.0.1", self._port_of["slurmctld"])))

    def start_node(self, node: str, *, wait: bool = True) -> None:
        (self._place.short / "spool" / node).mkdir(exist_ok=True)
        self._start(node, node, [program("slurmd"), "-D", "-N", node, "-f", str(self._place.conf)])
        if wait:
            self._wait(node, lambda: _answers(("127.0.0.1", self._port_of[node])))

    def stop_controller(self) -> None:
        """Politely, so that it saves its state; else by force."""
        daemon = self._expect("slurmctld")
        processes.kill([daemon.pid], signal.SIGTERM)
        if not processes.wait_for_end([daemon.pidfd], processes.LIMIT):
            processes.kill([daemon.pid])
            processes.wait_for_end([daemon.pidfd], processes.LIMIT)

    def crash_node(self, node: str) -> None:
        """End slurmd and all that runs on that node, as if its power had gone."""
        daemon = self._expect(node)
        host = processes.host_of(daemon.pid)
        if host is None or host == processes.host_of(os.getpid()):
            raise ClusterError(
                f"{node} has no host name of its own, so its processes cannot be told from others"
            )
        # slurmd first: it cannot start anything more, nor tell the controller what it sees.
        victims = [daemon.pid]
        deadline = time.monotonic() + processes.LIMIT
        while victims:
            if not processes.end(victims, max(0.0, deadline - time.monotonic())):
                raise ClusterError(f"{node}: SIGKILL does not end {victims}")
            victims = [pid for pid in processes.descendants(os.getpid()) if processes.host_of(pid) == host]

    def ended(self, pid: int) -> str | None:
        """One of our children is gone and reaped; returns its name if it was a daemon."""
        for name, daemon in self.running.items():
            if daemon.pid == pid:
                os.close(daemon.pidfd)
                del self.running[name]
                return name
        return None

    # -- below ---------------------------------------------------------------------------------------------------

    def _munged(self) -> list[str]:
        short = self._place.short
        return [
            program("munged"),
            "--foreground",
            # It refuses directories that others may write to, as the parents of a temporary directory often are.
            "--force",
            f"--socket={self._place.munge_socket}",
            f"--key-file={self._place.key}",
            f"--pid-file={short / 'munged.pid'}",
            f"--seed-file={short / 'munged.seed'}",
            f"--log-file={self._place.log / 'munged.log'}",
            "--origin=127.0.0.1",
        ]

    def _start(self, name: str, host: str, command: list[str]) -> None:
        if name in self.running:
            raise ClusterError(f"{name} runs already")
        log = self._place.log / f"{name}.out"
        own = None if self.warning else (host, self._place.hosts)
        pid = spawn(command, self.environment, own, log, self._place.log)
        # It is our child and not reaped, so the number is still its own even if it has ended.
        self.running[name] = Daemon(name, pid, os.pidfd_open(pid))

    def _expect(self, name: str) -> Daemon:
        if name not in self.running:
            raise ClusterError(f"{name} does not run")
        return self.running[name]

    def _wait(self, name: str, condition: Callable[[], bool]) -> None:
        """Nothing announces that a daemon serves: this is the one place that looks again and again."""
        deadline = time.monotonic() + STARTUP
        while not condition():
            if name not in self.running:
                raise DaemonDied(f"{name} ended while it was waited for")
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} does not serve after {STARTUP:.0f} s")
            self._pause()

    def _wait_for_nodes(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            self._wait(node, lambda: set(nodes) <= self._idle())

    def _idle(self) -> set[str]:
        """Nodes that slurmctld has registered and can start jobs on."""
        asked = subprocess.run(
            [program("sinfo"), "--noheader", "--Node", "--states=idle", "--format=%N"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=STARTUP,
            check=False,
        )
        return set(asked.stdout.decode().split())


def _answers(address: str | tuple[str, int]) -> bool:
    """Does something accept connections there?"""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(STARTUP)
        return probe.connect_ex(address) == 0
