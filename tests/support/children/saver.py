"""Saves when it gets its termination signal: says so, waits for leave to finish, then writes.

Usage: saver.py FILE GATE [SIGNAL].  Says ``ready PID PGID``, ``asked PID`` and ``saved PID``.
"""

import os
import signal
import sys

BENCH = os.environ["BENCH"]
SAID = os.open(f"{BENCH}/said", os.O_WRONLY)
HELD = os.open(f"{BENCH}/held", os.O_WRONLY)


def say(text: str) -> None:
    os.write(SAID, f"{text} {os.getpid()} {os.getpgrp()}\n".encode())


def main() -> None:
    file, gate = sys.argv[1:3]
    signum = signal.Signals[sys.argv[3]] if len(sys.argv) > 3 else signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
    say("ready")
    signal.sigwait({signum})
    say("asked")
    if gate != "-":
        with open(f"{BENCH}/{gate}", "rb", buffering=0) as leave:
            leave.read(1)
    with open(file, "w") as out:
        out.write("saved\n")
    say("saved")


main()
