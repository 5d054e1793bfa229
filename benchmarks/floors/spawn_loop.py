"""The limit for a launch rate that starts jobs our way: our spawn, a job's prologue and its cgroup, and no books.

python -m benchmarks.floors.spawn_loop JOBS AT_A_TIME DIRECTORY BASH
"""

from __future__ import annotations

import os
import sys

from torc_supervise.posix import cgroups, memory
from torc_supervise.posix.descriptors import raise_limit
from torc_supervise.posix.shell import command_line
from torc_supervise.posix.spawn import spawn


def main(jobs: int, at_a_time: int, directory: str, bash: str) -> None:
    open_files, adjust, run = raise_limit(), memory.jobs_oom_score_adj(), cgroups.make(f"loop{os.getpid()}")
    slots = [run.job(str(number)) for number in range(at_a_time)] if run is not None else []
    for slot in slots:
        slot.make()
    free: list[str | None] = [slot.entrance for slot in slots] if slots else [None] * at_a_time
    held: dict[int, str | None] = {}
    for job in range(jobs):
        if not free:
            free.append(held.pop(os.wait()[0]))
        entrance = free.pop()
        out, err = f"{directory}/{job}.o", f"{directory}/{job}.e"
        argv = command_line(bash, "true", out, err, os.getpid(), open_files, adjust, entrance)
        held[spawn(argv, os.environ)] = entrance
    while held:
        held.pop(os.wait()[0])
    if run is not None:
        run.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
