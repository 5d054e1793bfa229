"""The process that owns a cluster.

Everything that the cluster starts is a descendant of the keeper and stays one, because the keeper is a subreaper.
So at the end it can find and kill all of it: daemons, slurmstepds that daemonised, and what jobs left behind.  It does
so when it is told to, when its owner ends, and when it gets a signal.  If it is killed itself, the kernel kills the
daemons.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from types import FrameType

from slurm_cluster import processes
from slurm_cluster.conf import Options
from slurm_cluster.daemons import DaemonDied, Daemons
from slurm_cluster.errors import ClusterError
from slurm_cluster.place import Place, write_keeper
from slurm_cluster.spawn import MOST_DESCRIPTORS, become_subreaper, usual_signals

ATTEMPTS = 3
PAUSE = 0.03
"""Seconds between two looks at a daemon that does not serve yet, unless one of our processes ends before."""


class TakeDown(Exception):
    """The owner has ended, or somebody asked for the end."""


def start_keeper(place: Place, options: Options, owner: int | None) -> str | None:
    """Fork the keeper and wait until the cluster is up; returns a warning, if there is one.

    Args:
        owner: pid of the process with which the cluster ends.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            code = 1
            try:
                code = _run_keeper(place, options, owner, writing)
            finally:
                os._exit(code)  # never back into the caller's code
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as report:
        answer = report.read()
    if not answer:
        raise ClusterError(f"its keeper died\n{place.last_lines()}")
    said: dict[str, str | None] = json.loads(answer)
    if said["failed"] is not None:
        raise ClusterError(said["failed"])
    return said["warning"]


def _run_keeper(place: Place, options: Options, owner: int | None, report: int) -> int:
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(place.log / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for fd, target in ((null, 0), (log, 1), (log, 2), (report, 3)):
        os.dup2(fd, target, inheritable=target < 3)
    # Whoever waits for the end of file of our caller's output must not wait for us.
    os.closerange(4, MOST_DESCRIPTORS)
    os.chdir("/")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stdout = sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        Keeper(place, options, 3).keep(owner)
    except TakeDown as why:
        print(f"down: {why}")
        return 0
    except BaseException:
        traceback.print_exc()
        raise
    return 0


def _ignore(signum: int, frame: FrameType | None) -> None:
    """The byte in the wakeup socket says it."""


class Keeper:
    def __init__(self, place: Place, options: Options, report: int) -> None:
        become_subreaper()
        usual_signals()
        self._woken, wakeup = socket.socketpair()
        self._wakeup = wakeup
        for side in (self._woken, wakeup):
            side.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _ignore)
        self._place = place
        self._report: int | None = report
        self._owner: int | None = None
        self._daemons = Daemons(place, options, self._pause)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._poll.register(report, 0)  # POLLERR: the process that brings the cluster up has gone

    def keep(self, owner: int | None) -> None:
        """Bring the cluster up, serve requests, take it down."""
        write_keeper(self._place, os.getpid())
        try:
            try:
                self._watch(owner)
                self._bring_up()
            except ClusterError as error:
                self._end_everything()
                self._tell(failed=f"{error}\n{self._place.last_lines()}")
                return
            with self._listen() as listener:
                self._tell(warning=self._daemons.warning)
                while True:
                    self._serve(listener)
        finally:
            self._end_everything()
            self._place.remove_short()

    # -- up -----------------------------------------------------------------------------------------------------

    def _watch(self, owner: int | None) -> None:
        if owner is None:
            return
        try:
            self._owner = os.pidfd_open(owner)
        except ProcessLookupError:
            raise TakeDown("the owner has ended") from None
        self._poll.register(self._owner, select.POLLIN)

    def _bring_up(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._daemons.configure()
                self._daemons.start_all()
                return
            except DaemonDied as error:
                # Somebody may have taken a port after we had found it free.
                print(f"attempt {attempt}: {error}")
                self._end_everything()
                if attempt == ATTEMPTS:
                    raise

    def _tell(self, *, failed: str | None = None, warning: str | None = None) -> None:
        """Report to the process that brings the cluster up, once."""
        if self._report is not None:
            self._poll.unregister(self._report)
            with open(self._report, "w", encoding="utf-8") as report:
                report.write(json.dumps({"failed": failed, "warning": warning}))
            self._report = None

    # -- events -------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        self._handle(self._poll.poll(PAUSE * 1000))

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd == self._owner:
                raise TakeDown("the owner has ended")
            if fd == self._report:
                raise TakeDown("the process that brings it up has ended")
            if fd == self._woken.fileno():
                numbers = set(self._woken.recv(4096))
                if numbers - {signal.SIGCHLD}:
                    raise TakeDown(f"signal {numbers}")
                self._reap()

    def _reap(self) -> bool:
        """Collect all children that have ended; False if there are no children at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            name = self._daemons.ended(pid)
            if name is not None:
                print(f"{name} ended with {os.waitstatus_to_exitcode(status)}")

    # -- requests -----------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._place.control_socket))
        listener.listen()
        self._poll.register(listener, select.POLLIN)
        return listener

    def _serve(self, listener: socket.socket) -> None:
        events = self._poll.poll()
        self._handle(events)
        if any(fd == listener.fileno() for fd, _ in events):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                try:
                    self._answer(connection)
                except OSError as error:
                    print(f"request: {error}")  # whoever asked has gone

    def _answer(self, connection: socket.socket) -> None:
        request = connection.makefile("r", encoding="utf-8").readline().split()
        print(f"request: {request}")
        answer = "ok"
        try:
            self._do(request)
        except ClusterError as error:
            answer = str(error)
        connection.sendall(f"{answer}\n".encode())

    def _do(self, request: list[str]) -> None:
        match request:
            case ["down"]:
                raise TakeDown("asked to")
            case ["stop", "slurmctld"]:
                self._daemons.stop_controller()
            case ["start", "slurmctld"]:
                self._daemons.start_controller()
            case ["crash", node]:
                self._daemons.crash_node(node)
            case ["start", node]:
                self._daemons.start_node(node)
            case _:
                raise ClusterError(f"does not know how to {request}")
        self._reap()

    # -- down ---------------------------------------------------------------------------------------------------

    def _end_everything(self) -> None:
        """Kill all descendants, and what they leave behind, until there is nothing left."""
        deadline = time.monotonic() + processes.LIMIT
        while self._reap():
            left = deadline - time.monotonic()
            if left <= 0:
                print(f"SIGKILL does not end {processes.descendants(os.getpid())}")
                return
            processes.end(processes.descendants(os.getpid()), left)
