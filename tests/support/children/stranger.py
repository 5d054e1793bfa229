"""A member of the job's group whose parent left the group: leader -> setsid child -> member.

The member says ``ready PID`` and ``got SIGTERM``, waits for a byte from GATE and exits; its parent reaps it and exits.
The leader exits as soon as the member is there.  Usage: stranger.py GATE.
"""

import os
import signal
import sys

BENCH = os.environ["BENCH"]
GATE = sys.argv[1]

held = os.open(f"{BENCH}/held", os.O_WRONLY)
said = os.open(f"{BENCH}/said", os.O_WRONLY)
there, tell = os.pipe()
group = os.getpgrp()
if os.fork():
    os.close(tell)
    os.read(there, 1)  # the member is in its place
    os._exit(0)
# Only a process may put its children into a group, and only into one of its own session: fork first, leave then.
go, leave = os.pipe()
if member := os.fork():
    os.setsid()
    os.write(leave, b"x")
    os.close(tell)
    os.waitpid(member, 0)
    os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.read(go, 1)
os.write(said, f"ready {os.getpid()}\n".encode())
os.write(tell, b"x")
signal.sigwait({signal.SIGTERM})
os.write(said, b"got SIGTERM\n")
with open(f"{BENCH}/{GATE}", "rb", buffering=0) as gate:
    gate.read(1)
os._exit(0)
