"""The graph of dependencies: levels and cycles.  Nothing here recurses, so depth is no limit."""

from __future__ import annotations

from collections.abc import Sequence


def levels(depends_on: Sequence[Sequence[int]]) -> list[int]:
    """The stage of each job: 0 without dependencies, else one more than the latest of them.

    Args:
        depends_on: for each job the positions (from 0) of the jobs that it waits for, without repetition.

    Returns:
        One number per job; -1 for the jobs on a cycle and those that wait for one.
    """
    waiting = [len(needed) for needed in depends_on]
    dependents: list[list[int]] = [[] for _ in depends_on]
    for job, needed in enumerate(depends_on):
        for dependency in needed:
            dependents[dependency].append(job)
    level = [0 if not count else -1 for count in waiting]
    ready = [job for job, count in enumerate(waiting) if not count]
    depth = 0
    while ready:
        depth += 1
        following: list[int] = []
        for job in ready:
            for dependent in dependents[job]:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    level[dependent] = depth
                    following.append(dependent)
        ready = following
    return level


def find_cycle(depends_on: Sequence[Sequence[int]]) -> list[int] | None:
    """Jobs that wait for each other in a circle, each for the next and the last for the first; None if none do."""
    stuck = {job for job, level in enumerate(levels(depends_on)) if level < 0}
    if not stuck:
        return None
    # Every stuck job waits for another stuck one, so walking along must come back to where it has been.
    job = min(stuck)
    seen: dict[int, int] = {}
    path: list[int] = []
    while job not in seen:
        seen[job] = len(path)
        path.append(job)
        job = next(dependency for dependency in depends_on[job] if dependency in stuck)
    return path[seen[job] :]
