"""Touches this many MiB, says ``ready`` and holds them.  Usage: allocates.py MIB."""

import os
import signal
import sys

HELD = os.open(f"{os.environ['BENCH']}/held", os.O_WRONLY)
memory = bytearray(int(sys.argv[1]) << 20)
memory[::4096] = b"x" * len(memory[::4096])
with open(f"{os.environ['BENCH']}/said", "w") as said:
    said.write("ready\n")
signal.pause()
