"""Starts a daemon, on a host of its own as far as the kernel lets us."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

MOST_DESCRIPTORS = 1 << 20
"""Higher than any that a process has; one system call closes them all."""

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def become_subreaper() -> None:
    """Have everything that our descendants leave behind become our child."""
    _check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def usual_signals() -> None:
    """No signal is blocked or ignored, whatever the caller's caller did."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # one that the C library keeps for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def own_host(name: str, hosts: Path) -> None:
    """Give this process a host name and an /etc/hosts of its own.

    As root that takes two new namespaces.  Others, and root without the right to make them, need a user namespace
    around them, in which they stay who they are.
    """
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUTS | CLONE_NEWNS) != 0:
        _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    socket.sethostname(name)
    # Slave: what the machine mounts later is seen here, what is mounted here is not seen there.
    _check(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "mount /")
    if os.path.exists("/etc/hosts"):
        _check(libc.mount(os.fsencode(hosts), b"/etc/hosts", None, MS_BIND, None), "mount /etc/hosts")


def why_no_own_host(hosts: Path) -> str | None:
    """Try in a process of its own whether :func:`own_host` works here; returns what is in its way."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            own_host("probe", hosts)
        except OSError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        why = answer.read().decode()
    os.waitpid(pid, 0)
    return why or None


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    host: tuple[str, Path] | None,
    log: Path,
    directory: Path,
) -> int:
    """Start a program that is killed when its parent dies; returns its pid.

    Args:
        host: host name and hosts file to give it.
        log: gets what it says before its own log is open, and why it could not be started.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, MOST_DESCRIPTORS)
        usual_signals()
        os.setsid()
        os.chdir(directory)
        _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        if os.getppid() != parent:
            os._exit(1)  # it died before it could have us killed
        if host is not None:
            own_host(*host)
        os.execve(command[0], list(command), environment)
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
    finally:
        # Never back into the parent's code.
        sys.stderr.flush()
        os._exit(127)
