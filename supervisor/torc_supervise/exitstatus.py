"""How a process ended, and what it used: the words that the system calls and the machine share."""

from __future__ import annotations

from msgspec import Struct


class Exited(Struct, frozen=True, gc=False):
    """It called exit(code), 0 to 255."""

    code: int


class Signaled(Struct, frozen=True, gc=False):
    """It died of a signal."""

    signum: int
    core_dumped: bool = False


Exit = Exited | Signaled

STEP_LOST = 64
"""Signal (SIGRTMAX) that the leader of a job step dies of where nobody knows how its job ended, or whether it began:
Slurm ended the step or did not give one."""


class Usage(Struct, frozen=True, gc=False):
    """Resource usage of a process and all descendants that were waited for (wait4(2), getrusage(2)).

    ``max_rss_is_bound``: the figure only says that the process used no more.  Linux carries the largest resident size
    over an exec (fs/exec.c, setmax_mm_hiwater_rss), so a spawned process starts with that of its spawner: what is not
    above our own is ours.
    """

    max_rss_bytes: int
    user_cpu_seconds: float
    system_cpu_seconds: float
    max_rss_is_bound: bool = False
