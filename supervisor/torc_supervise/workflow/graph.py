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


def find_cycles(depends_on: Sequence[Sequence[int]]) -> list[list[int]]:
    """Circles of jobs, each job waiting for the next and the last for the first.

    No job is in two of them, and without these jobs there would be no circle.
    """
    stuck = [job for job, level in enumerate(levels(depends_on)) if level < 0]
    cycles: list[list[int]] = []
    left = set(stuck)  # neither in a circle that was found nor known to be in none
    for start in stuck:
        if start not in left:
            continue
        path = [(start, iter(depends_on[start]))]
        on_path = {start: 0}
        while path:
            job, needed = path[-1]
            following = next((other for other in needed if other in left), None)
            if following is None:  # all that it waits for was looked at
                ended = [job]
                path.pop()
            elif following not in on_path:
                on_path[following] = len(path)
                path.append((following, iter(depends_on[following])))
                continue
            else:
                ended = [member for member, _ in path[on_path[following] :]]
                cycles.append(ended)
                del path[on_path[following] :]
            left.difference_update(ended)
            for member in ended:
                del on_path[member]
    return cycles
