"""Names of signals, and the specifications that Slurm's ``--signal`` takes."""

from __future__ import annotations

import re
import signal

from msgspec import Struct

# The signals that ask a program to end, or that programs by custom take as such.  STOP, CONT, CHLD and the like
# are left out on purpose: no job ends because of them.
TERMINATION_SIGNALS = (
    "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGABRT", "SIGKILL",
)  # fmt: skip
MAX_SIGNAL_SECONDS = 65535  # Slurm keeps the lead in 16 bits
DEFAULT_SIGNAL_SECONDS = 60  # Slurm's lead where none is given

SIGNAL_SPEC = re.compile(r"(?:([RB]|RB|BR):)?([A-Z0-9+]+)(?:@([0-9]{1,9}))?", re.ASCII | re.IGNORECASE)


class SignalSpec(Struct, frozen=True):
    """What ``--signal=[{R|B}:]SIGNAL[@SECONDS]`` says.

    ``batch_shell_only`` is the B: without it Slurm signals the job's steps but not the batch shell.
    """

    signal: str
    seconds: int = DEFAULT_SIGNAL_SECONDS
    batch_shell_only: bool = False


def parse_signal(text: str) -> str:
    """The full name, ``SIGTERM``, of a signal that can end a job.

    Args:
        text: ``TERM``, ``SIGTERM``, ``term`` or ``15``.

    Raises:
        ValueError: no such signal, or one that ends nothing.
    """
    name = _signal_name(text)
    if name not in TERMINATION_SIGNALS:
        raise ValueError(f"{name} does not ask a program to end; use one of {', '.join(TERMINATION_SIGNALS)}")
    return name


def parse_signal_spec(text: str) -> SignalSpec:
    """What Slurm's ``--signal`` is told.

    Args:
        text: ``TERM``, ``B:TERM@300``, ``R:USR1@60`` or ``10@120``.

    Raises:
        ValueError: not of the form, no such signal, or a lead over 65535 seconds.
    """
    match = SIGNAL_SPEC.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text.strip()[:60]!r} is not a --signal specification; write [B:]SIGNAL[@SECONDS], for example B:TERM@300"
        )
    flags, name, seconds = match.groups()
    lead = DEFAULT_SIGNAL_SECONDS if seconds is None else int(seconds)
    if lead > MAX_SIGNAL_SECONDS:
        raise ValueError(
            f"{lead} seconds is more than Slurm's --signal can hold; at most {MAX_SIGNAL_SECONDS}"
        )
    return SignalSpec(_signal_name(name), lead, "B" in (flags or "").upper())


def _signal_name(text: str) -> str:
    upper = text.strip().upper()
    if upper.isascii() and upper.isdigit() and len(upper) <= 3:
        try:
            return signal.Signals(int(upper)).name
        except ValueError:
            raise ValueError(f"there is no signal number {upper}") from None
    name = upper if upper.startswith("SIG") else f"SIG{upper}"
    if name in signal.Signals.__members__:
        return signal.Signals[name].name
    import difflib  # slow to import: for mistakes alone

    close = difflib.get_close_matches(name, TERMINATION_SIGNALS, n=1)
    suggestion = f"did you mean {close[0]}?" if close else f"use one of {', '.join(TERMINATION_SIGNALS)}"
    raise ValueError(f"there is no signal {text.strip()[:40]!r}; {suggestion}")
