"""The names of one kind of thing: looked up exactly or by regular expression."""

from __future__ import annotations

import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from torc_supervise.workflow.problems import did_you_mean

_META = frozenset(".^$*+?{}[]\\|()")


class NameIndex:
    """Names of jobs, files or user_data in file order.

    Args:
        noun: for messages: ``job``.
        names: in file order; of repeated names the first counts, an empty one is no name.
    """

    def __init__(self, noun: str, names: Iterable[str]) -> None:
        self.noun = noun
        self.positions: dict[str, int] = {}
        for position, name in enumerate(names):
            if name:
                self.positions.setdefault(name, position)
        self._sorted: list[str] | None = None
        self._matches: dict[str, tuple[str, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.positions

    def suggestion(self, name: str) -> str | None:
        """``did you mean 'x'?`` or None."""
        return did_you_mean(name, self.positions)

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The names in which the pattern is found anywhere, in file order.

        Each distinct pattern is searched once.  One that starts with ``^`` and plain characters looks only at the
        names that start so, and is no regular expression at all if nothing else follows: a sweep of 100,000 jobs
        with a pattern each stays fast.

        Raises:
            ValueError: not a regular expression.
        """
        found = self._matches.get(pattern)
        if found is None:
            found = self._matches[pattern] = self._search(pattern)
        return found

    def _search(self, pattern: str) -> tuple[str, ...]:
        prefix = _literal_prefix(pattern)
        rest = pattern[1 + len(prefix) :]
        if prefix and rest == "$":
            return (prefix,) if prefix in self.positions else ()
        candidates = self._starting_with(prefix) if prefix else self.positions
        if prefix and not rest:
            return tuple(candidates)
        search = compile_regex(pattern).search
        return tuple(name for name in candidates if search(name))

    def _starting_with(self, prefix: str) -> Iterable[str]:
        if self._sorted is None:
            self._sorted = sorted(self.positions)
        first = bisect_left(self._sorted, prefix)
        last = bisect_right(self._sorted, prefix + "\U0010ffff")
        return sorted(self._sorted[first:last], key=self.positions.__getitem__)


def compile_regex(pattern: str) -> re.Pattern[str]:
    """The compiled pattern.

    Raises:
        ValueError: not a regular expression, and why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # sets that a later Python may read differently
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, re.error) else "too large or too deeply nested"
        raise ValueError(f"not a regular expression: {reason}") from None


def _literal_prefix(pattern: str) -> str:
    """The plain characters that every match of ``^...`` starts with; empty where none are certain."""
    if not pattern.startswith("^") or "|" in pattern:
        return ""
    end = 1
    while end < len(pattern) and pattern[end] not in _META:
        end += 1
    if end < len(pattern) and pattern[end] in "*?{":  # these may repeat the character before them zero times
        end -= 1
    return pattern[1 : max(end, 1)]
