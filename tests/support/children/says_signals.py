"""Says each signal that it gets and ends of none but SIGUSR2.  Usage: says_signals.py NAME FIFO.

First line: ``NAME ready HOST PID``; then ``NAME TERM`` and so on.
"""

import os
import signal
import socket
import sys

name, fifo = sys.argv[1:]
# Blocked and waited for: one at a time, in a row, none lost in a handler.
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
with open(fifo, "w", buffering=1) as said:
    said.write(f"{name} ready {socket.gethostname()} {os.getpid()}\n")
    while (number := signal.sigwait(signal.valid_signals())) != signal.SIGUSR2:
        said.write(f"{name} {signal.Signals(number).name.removeprefix('SIG')}\n")
