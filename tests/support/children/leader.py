"""The leader of an isolated job, held up: ``leader.py WHERE ARGUMENTS...`` of ``helpers.namespace``.

WHERE: ``before`` the job's shell is forked, or ``after``.  Says ``there`` and waits for the gate.
"""

import os
import sys

from torc_supervise.helpers.namespace import inside
from torc_supervise.helpers.namespace.leader import main

BENCH = os.environ["BENCH"]


def hold() -> None:
    with open(f"{BENCH}/said", "wb", buffering=0) as said:
        said.write(b"there\n")
    with open(f"{BENCH}/gate", "rb", buffering=0) as gate:
        gate.read(1)


def held_before(fork=os.fork) -> int:
    if os.getpid() == 1:
        hold()
    return fork()


def held_after(self, go_on=inside.Init._become_shell) -> None:
    hold()
    go_on(self)


if sys.argv.pop(1) == "before":
    os.fork = held_before
else:
    inside.Init._become_shell = held_after
main()
