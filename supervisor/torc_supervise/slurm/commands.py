"""Slurm's own programs: found on PATH, run with a limit on time, their words passed on as they are.

They are run by commands before or after the jobs, and by the keeper beside them; never by the parent while it has
children (its reaper is the only one that waits).  One call is one question to slurmctld, which administrators count.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torc_supervise.errors import TorcError

_T = TypeVar("_T")

ANSWER_WITHIN = 30.0
"""Seconds.  Slurm's own programs give up after MessageTimeout, 10 s by default, at most 100 s."""

SUBMIT_TRIES = 6
PAUSE_BETWEEN_TRIES = 10.0
"""Seconds.  Six tries, ten seconds apart, as Torc does: a slurmctld that is restarted is back by then."""

_UNREACHABLE = (
    "unable to contact slurm controller",
    "connection refused",
    "connection timed out",
    "socket timed out",
    "zero bytes were transmitted or received",
    "slurm_receive_msg",
    "slurm backup controller in standby mode",
    "communication connection failure",
    "resource temporarily unavailable",
    "unable to establish controller machine",
)


class SlurmError(TorcError):
    """One of Slurm's programs did not do what it was asked; ``said`` is its own text."""

    def __init__(self, message: str, hint: str | None = None, *, said: str = "") -> None:
        super().__init__(message, hint)
        self.said = said


class SlurmMissing(SlurmError):
    """The program is not on PATH."""


class SlurmUnreachable(SlurmError):
    """slurmctld does not answer; asked later it may."""


class SlurmRefused(SlurmError):
    """slurmctld, or the program itself, said no."""


def find(program: str) -> str:
    """Absolute path of ``sbatch``, ``squeue``, ``scontrol``, ``scancel`` or ``srun``.

    Raises:
        SlurmMissing: it is not on PATH.
    """
    import shutil  # a run without Slurm needs neither this nor subprocess, whose imports are a twentieth of its start

    path = shutil.which(program)
    if path is None:
        raise SlurmMissing(
            f"Slurm's '{program}' was not found on PATH",
            "load the site's Slurm module, or work on a node where 'sinfo' answers; "
            "without Slurm, 'torc-supervise run' runs the workflow on this machine",
        )
    return path


def run(
    argv: Sequence[str],
    *,
    timeout: float = ANSWER_WITHIN,
    directory: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run ``argv`` (its first word a program's name) and return what it wrote to stdout.

    Times in its output are seconds since 1970 (SLURM_TIME_FORMAT=%s), its messages English.

    Args:
        timeout: seconds; it is killed then.
        directory: to run it in.
        environment: exactly this one, for sbatch, which hands it on to the job; None for ours as described above.

    Raises:
        SlurmMissing: it is not on PATH.
        SlurmUnreachable: slurmctld does not answer, or not in time.
        SlurmRefused: it failed otherwise.
    """
    import subprocess

    program, *arguments = argv
    environment = environment if environment is not None else _plain_environment()
    try:
        done = subprocess.run(
            [find(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=environment,
            cwd=directory,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmUnreachable(f"{program} did not answer within {timeout:.0f} s") from error
    except OSError as error:
        raise SlurmRefused(f"{program} cannot be run: {error.strerror}") from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr or done.stdout).strip()
    lowered = said.lower()
    kind = SlurmUnreachable if any(text in lowered for text in _UNREACHABLE) else SlurmRefused
    raise kind(said or f"{program} failed with exit code {done.returncode}", said=said)


def _plain_environment() -> dict[str, str]:
    """Somebody's taste must not change what we parse, nor which jobs are found (SQUEUE_PARTITION, SCANCEL_STATE)."""
    taste = ("SQUEUE_", "SCANCEL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(taste)}
    return {**environment, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


def retrying(argv: Sequence[str], say: Callable[[str], None], *, pause: float = PAUSE_BETWEEN_TRIES) -> str:
    """As :func:`run`, tried again while slurmctld does not answer; see :func:`patiently`."""
    return patiently(lambda: run(argv), say, pause=pause)


def patiently(
    call: Callable[[], _T],
    say: Callable[[str], None],
    *,
    tries: int = SUBMIT_TRIES,
    pause: float = PAUSE_BETWEEN_TRIES,
) -> _T:
    """What ``call`` returns, tried again while slurmctld does not answer.  For a person at a terminal: Ctrl-C ends it.

    Args:
        say: gets a line for each try that was in vain.
        pause: seconds between tries.

    Raises:
        SlurmError: what ``call`` raises; SlurmUnreachable of the last try.
    """
    for left in reversed(range(tries)):
        try:
            return call()
        except SlurmUnreachable as error:
            if not left:
                raise
            said = error.message.splitlines()[-1]
            say(f"{said}; trying again in {pause:.0f} s ({left} {'tries' if left > 1 else 'try'} left)")
            threading.Event().wait(pause)  # nothing runs here that a signal could be late for
    raise AssertionError("the last try returns or raises")
