"""Namespaces: the command line of a job that has a PID namespace of its own (``helpers.namespace``), and whether it
can have one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

from torc_supervise.posix.reap import collect_own
from torc_supervise.posix.spawn import spawn

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_BOOT = (
    "import signal, sys; signal.signal(2, signal.SIG_DFL); "  # until the job's shell is there
    "sys.path.append(sys.argv.pop(1)); from torc_supervise.helpers.namespace.leader import main; main()"
)

# What switches namespaces off: file, the value that does, how to call it.
_SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"),
    ("/proc/sys/user/max_pid_namespaces", "0", "user.max_pid_namespaces is 0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns is 1",
    ),
)


def leader_command(
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    scope: str,
    signum: int,
    grace: float,
    cgroup: str | None,
) -> tuple[str, ...]:
    """The command line of the leader of ``argv``, which is started with ``environment``.

    Args:
        scope: ``leader`` where a signal to the leader is for the first process of the job.
        signum, grace: the signal that asks the job to end, and the seconds it has then; 0: it cannot save.
        cgroup: file to which the leader writes its pid, None for none.
    """
    lc_ctype = "=" + environment["LC_CTYPE"] if "LC_CTYPE" in environment else ""
    order = (str(os.getpid()), scope, str(int(signum)), f"{grace:g}", cgroup or "", lc_ctype)
    return (*_program(), *order, *argv)


def lifeline() -> int:
    """The reading end of a pipe that this process and what it forks hold open for writing, as long as they live.

    For the leaders' stdin: its end of file says that supervisor and keepers are dead, whatever killed them (P10).
    """
    reader, _held = os.pipe()
    return reader


def trouble() -> str | None:
    """Why no job can have a PID namespace here; None where it can.  Tries it in a process of its own.

    Raises:
        SpawnRefusedError, SpawnFailedError: that process cannot be started.
    """
    reader, writer = os.pipe()
    with open(reader, "rb") as answers:
        try:
            pid = spawn((*_program(), "probe"), os.environ, writer)
        finally:
            os.close(writer)
        answer = answers.read()
    with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored the kernel has collected it
        collect_own(pid)
    if answer == b"0":
        return None
    what = os.strerror(int(answer)) if answer else "the attempt ended without an answer"
    switched_off = [text for path, value, text in _SWITCHES if _read(path) == value]
    return f"{what} ({', '.join(switched_off)})" if switched_off else what


def _program() -> tuple[str, ...]:
    """An interpreter that looks at nothing but its own library."""
    return (sys.executable, "-I", "-S", "-c", _BOOT, ROOT)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
