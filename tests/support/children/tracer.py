"""Seizes process PID with ptrace, says so, and never waits for it: a debugger that was forgotten.

    tracer.py PID

A dead process that is traced stays its tracer's until that one ends or waits: its own parent is not told.
"""

import ctypes
import os
import signal
import sys

PTRACE_SEIZE = 0x4206

libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("traces", flush=True)
while True:
    signal.pause()
