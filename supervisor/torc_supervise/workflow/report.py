"""Collects what is wrong with one file while it is being read and checked."""

from __future__ import annotations

from torc_supervise.workflow.nodes import Node
from torc_supervise.workflow.problems import Problem


class Report:
    """Errors and warnings of one file, each place reported once.

    A parameter sweep repeats a mistake in every job that it makes: the first one is enough, so a second error of
    the same field at the same place is dropped.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self._seen: set[tuple[int, int, str]] = set()

    def error(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        """Note a mistake at the place of ``node``."""
        place = (node.line, node.column, path)
        if place not in self._seen:
            self._seen.add(place)
            self.errors.append(Problem(self.file, node.line, node.column, path, message, hint))

    def warn(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        """Note something that deserves a look but stops nothing."""
        self.warnings.append(Problem(self.file, node.line, node.column, path, message, hint))
