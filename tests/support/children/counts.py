"""Never ends by itself; says ``got SIGNAME`` for every signal it gets.  Usage: counts.py [NAME]."""

import os
import signal
import sys

BENCH = os.environ["BENCH"]
SAID = os.open(f"{BENCH}/said", os.O_WRONLY)
HELD = os.open(f"{BENCH}/held", os.O_WRONLY)
NAME = sys.argv[1] if len(sys.argv) > 1 else ""
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}

signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
os.write(SAID, f"ready {NAME} {os.getpid()}\n".encode())
while True:
    got = signal.sigwait(SIGNALS)
    os.write(SAID, f"got {got.name} {NAME}\n".encode())
