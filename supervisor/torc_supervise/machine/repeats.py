"""Repeats: a storm of signals must not fill the journal.

The first signal of a kind is recorded at once.  What follows within QUIET_AFTER of the last record of that kind is only
counted, and comes as one record with a count when that time is up.  So a kind takes a line a second at most, and
nothing that arrived is left out.
"""

from __future__ import annotations

from msgspec import Struct

from torc_supervise.machine.phases import NEVER

QUIET_AFTER = 1.0  # seconds


class _Kind(Struct):
    last: float  # when its last record was written
    more: int = 0  # seen since then


class Repeats:
    """Invariant: ``due`` is the earliest moment at which a kind that was seen since its last record has a new one."""

    def __init__(self) -> None:
        self.due = NEVER
        self._kinds: dict[str, _Kind] = {}

    def is_news(self, name: str, now: float) -> bool:
        """One was seen; returns whether it is to be recorded by itself, now."""
        kind = self._kinds.get(name)
        if kind is None or (not kind.more and now - kind.last >= QUIET_AFTER):
            self._kinds[name] = _Kind(now)
            return True
        kind.more += 1
        self.due = min(self.due, kind.last + QUIET_AFTER)
        return False

    def take(self, now: float) -> list[tuple[str, int]]:
        """Kinds whose time is up with what was counted, to be recorded now; ``now`` may be NEVER for all of them."""
        if now < self.due:
            return []
        ripe = [(name, k) for name, k in self._kinds.items() if k.more and k.last + QUIET_AFTER <= now]
        taken = [(name, kind.more) for name, kind in ripe]
        for _, kind in ripe:
            kind.last, kind.more = now, 0
        waiting = [kind.last + QUIET_AFTER for kind in self._kinds.values() if kind.more]
        self.due = min(waiting, default=NEVER)
        return taken
