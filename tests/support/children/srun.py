"""Stands in for srun: what a healthy cluster does, and what only a broken one does.  Its first argument says which.

``run``: starts what comes after ``--`` as the only task.  ``later N FILE``: as that, but cannot be had N times; FILE
counts.  ``refuse TEXT``: says so and fails.  ``vanish TEXT``: the task begins, then there is nothing.  ``stay``:
the task is over, and srun does not end.
"""

import json
import os
import signal
import sys

how, *rest = sys.argv[1:]
command = rest[rest.index("--") + 1 :]


def run() -> None:
    os.environ["SLURM_PROCID"] = "0"
    os.environ["SLURMD_NODENAME"] = "here"
    os.execv(command[0], command)


def fail(text: str) -> None:
    os.write(2, f"srun: error: {text}\n".encode())
    os._exit(1)


def say(document: object) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


match how:
    case "run":
        run()
    case "later":
        with open(rest[1], "a+") as file:
            file.write("x")
            file.seek(0)
            tries = len(file.read())
        if tries > int(rest[0]):
            run()
        fail("Unable to create step for job 7: Unable to contact slurm controller (connect failure)")
    case "refuse":
        fail(rest[0])
    case "vanish":
        say({"started": {"node": "here", "pid": 1}})
        fail(rest[0])
    case "stay":
        say({"started": {"node": "here", "pid": 1}})
        say({"ended": {"how": "exit", "number": 4, "told": False}})
        signal.pause()
