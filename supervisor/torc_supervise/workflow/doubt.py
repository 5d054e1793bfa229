"""Names that entries with mistakes may have.

A reference to one of them is not reported as unknown: the mistake is the entry's, and was reported there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torc_supervise.workflow.names import compile_regex
from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence
from torc_supervise.workflow.records import Record
from torc_supervise.workflow.spec import WorkflowSpec

_TOKEN = re.compile(r"\{[^{}]*\}")
_MOST_TEMPLATES = 1000


class Doubt:
    """What the broken entries of one section may be called.

    ``anything`` says that one of them may have any name.
    """

    def __init__(self, spec: WorkflowSpec, section: str, unexpanded: Iterable[Record] = ()) -> None:
        self.anything = is_unreadable(spec, section)
        self.names: set[str] = set()
        self._templates: set[tuple[str, ...]] = set()
        for entry in getattr(spec, section):
            if isinstance(entry.origin, Mapping) and "name" in (key for key, _ in entry.origin.repeated):
                self.anything = True  # two entries without a dash in between, most often
            if "name" in entry.broken:
                self._add_node(entry.broken["name"])
            elif not entry.name and not entry.states("name"):
                # An entry may have no name where it needs none; only required ones are missing.
                self.anything = self.anything or entry.name is not None
        for node in _items(spec, section):
            if not isinstance(node, Mapping):
                self._add_node(node)
        for entry in unexpanded:
            self._add(getattr(entry, "name", ""))

    def may_be(self, name: str) -> bool:
        """Whether a broken entry may have this name."""
        return self.anything or name in self.names or any(_fits(name, pieces) for pieces in self._templates)

    def may_match(self, pattern: str) -> bool:
        """Whether a regular expression may find the name of a broken entry."""
        if self.anything or self._templates:
            return True
        try:
            search = compile_regex(pattern).search
        except ValueError:
            return False
        return any(search(name) for name in self.names)

    def _add_node(self, node: Node) -> None:
        if isinstance(node, Scalar) and node.value is not None:
            self._add(node.value if isinstance(node.value, str) else node.text)
        else:
            self.anything = True

    def _add(self, name: str) -> None:
        pieces = tuple(_TOKEN.split(name))
        if not name.strip() or len(self._templates) >= _MOST_TEMPLATES:
            self.anything = True
        elif len(pieces) == 1:
            self.names.add(name)
        else:
            self._templates.add(pieces)


def is_unreadable(spec: WorkflowSpec, section: str) -> bool:
    """Whether entries of a section are unknown: it is no list, misspelt, given twice, or missing against the rules."""
    if not isinstance(spec.origin, Mapping) or section in (key for key, _ in spec.origin.repeated):
        return True
    return section in spec.broken or (section == "jobs" and section not in spec.origin.entries)


def _items(spec: WorkflowSpec, section: str) -> list[Node]:
    node = spec.origin.entries.get(section) if isinstance(spec.origin, Mapping) else None
    return node.items if isinstance(node, Sequence) else []


def _fits(name: str, pieces: tuple[str, ...]) -> bool:
    """Whether a template makes this name for some values: its texts occur in order, with anything in between."""
    first, *middle, last = pieces
    end = len(name) - len(last)
    if end < len(first) or not name.startswith(first) or not name.endswith(last):
        return False
    at = len(first)
    for piece in middle:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True
