"""Memory: who is to go first when it is short."""

from __future__ import annotations

HIGHER = 500
"""Jobs go before their supervisor, which would take all of them along."""

MOST = 1000


def jobs_oom_score_adj() -> int | None:
    """What jobs get for oom_score_adj (proc_pid_oom_score_adj(5)): more than we have ourselves; None if unknown."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            own = int(file.read())
    except (OSError, ValueError):
        return None
    return min(MOST, own + HIGHER)
