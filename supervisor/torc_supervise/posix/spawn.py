"""Spawn: one job, one session, one process group (P2), with default signal dispositions and an empty mask.

``posix_spawn`` holds the caller until the child's exec, so nothing in here may open a job's files: the shell that
runs the command opens them after the exec (P8, ``posix.shell``).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

MACHINE_FULL = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# Everything that can be changed: Python ignores SIGPIPE and SIGXFSZ, nohup SIGHUP, a shell's "&" SIGINT and SIGQUIT,
# and posix_spawn passes all of that on unless it is told not to.
_DEFAULTED = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class SpawnRefusedError(Exception):
    """The machine is full; nothing is wrong with the job.  ``errno`` says of what."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


class SpawnFailedError(Exception):
    """This program cannot be started."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno = number


def spawn(argv: tuple[str, ...], environment: Mapping[str, str], stdin: int | None = None) -> int:
    """Start ``argv[0]`` (an absolute path) and return its pid, which is its process group and session as well.

    The child exists with session and group when this returns: there is no moment at which killpg could miss it.

    Args:
        stdin: a descriptor that is open already, None to leave it.

    Raises:
        SpawnRefusedError: EAGAIN, EMFILE, ENFILE or ENOMEM.
        SpawnFailedError: anything else (not found, not executable, command line too long).
    """
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[] if stdin is None else [(os.POSIX_SPAWN_DUP2, stdin, 0)],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )
    except OSError as error:
        number = error.errno or 0
        if number in MACHINE_FULL:
            raise SpawnRefusedError(number) from error
        detail = "the command line is too long" if number == errno.E2BIG else os.strerror(number)
        raise SpawnFailedError(number, f"{argv[0]}: {detail}") from error
    except ValueError as error:  # a NUL byte
        raise SpawnFailedError(errno.EINVAL, str(error)) from error


def keep_descriptors_from_children() -> None:
    """Set close-on-exec on everything that was inherited, but for stdin, stdout and stderr.

    Python's own descriptors have it; those that Slurm, MPI or a shell left open do not, and a job that holds, say,
    the write end of somebody's pipe keeps its reader waiting.
    """
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2:
            try:
                os.set_inheritable(number, False)
            except OSError:
                continue  # the descriptor of the listing itself
