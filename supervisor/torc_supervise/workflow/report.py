"""Collects what is wrong with one file while it is being read and checked."""

from __future__ import annotations

from collections.abc import Callable

from torc_supervise.workflow.nodes import Node
from torc_supervise.workflow.problems import Problem

MAX_SEARCHED_HINTS = 100


class Report:
    """Errors and warnings of one file.

    ``swept`` has the paths of parameterised jobs and files.  A sweep repeats a mistake in everything that it makes:
    the first is enough, so a second error at the same place of such an item is dropped.  ``part`` tells places apart
    that have no node of their own.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.swept: set[str] = set()
        self.misspelt: dict[
            tuple[object, str], str | None
        ] = {}  # kind of map, unknown key -> the key that it means
        self._seen: set[tuple[int, int, str, int, str]] = set()

    def error(
        self,
        node: Node,
        path: str,
        message: str,
        hint: str | Callable[[], str | None] | None = None,
        *,
        part: int = 0,
    ) -> None:
        """Note a mistake at the place of ``node``.

        A hint that takes a search is given as a function: it is not called for a mistake that is dropped, nor once
        there are so many that nobody reads them all.
        """
        item = path.partition(".")[0]
        place = (node.line, node.column, path, part, "" if item in self.swept else message)
        if place not in self._seen:
            self._seen.add(place)
            if callable(hint):
                hint = hint() if len(self.errors) < MAX_SEARCHED_HINTS else None
            self.errors.append(Problem(self.file, node.line, node.column, path, message, hint))

    def warn(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        """Note something that deserves a look but stops nothing."""
        self.warnings.append(Problem(self.file, node.line, node.column, path, message, hint))
