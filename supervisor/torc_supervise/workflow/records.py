"""Maps with a fixed set of fields, declared like dataclasses.

::

    @record
    class FileSpec(Record):
        name: str = entry(Line("a name"), "How jobs refer to the file.", required=True)

declares at once the attribute, what it may hold, its default and its description in the JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import Any, ClassVar, TypeVar, dataclass_transform

from msgspec import Struct

from torc_supervise.workflow.containers import join, report_repeated
from torc_supervise.workflow.nodes import Mapping, Node, Scalar, child, describe, is_null
from torc_supervise.workflow.problems import closest, quoted
from torc_supervise.workflow.report import MAX_SEARCHED_HINTS, Report
from torc_supervise.workflow.shapes import INVALID, Schema, Shape

T = TypeVar("T")

_NOWHERE = Scalar(None, "", 1, 1)
_SOUND: MappingType[str, Node] = {}


class Entry(Struct, frozen=True, eq=False):
    """One declared field."""

    shape: Shape
    description: str
    required: bool
    default: Any
    example: Any


@dataclass_transform(kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """The class with its declared fields as keyword arguments.

    Their defaults become attributes of the class, which an instance shares with all others: nobody writes to them.
    Nothing is compiled for it, as dataclasses do: every run would wait for that.
    """
    for name, value in list(vars(cls).items()):
        if isinstance(value, Entry):
            setattr(cls, name, value.shape.placeholder if value.required else value.default)
            _DECLARED.setdefault(cls, {})[name] = value
    return cls


_DECLARED: dict[type[Any], dict[str, Entry]] = {}


class Record:
    """A map of the file after validation; ``origin`` and ``where`` are its node and path.

    ``broken`` has what the file gives for the fields that could not be read, also where only the key is misspelt.
    """

    noun: ClassVar[str] = "a map"

    origin: Node = _NOWHERE
    where: str = ""
    broken: MappingType[str, Node] = _SOUND

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def at(self, *steps: str | int) -> tuple[Node, str]:
        """Node and path of a part: ``job.at("depends_on", 0)``."""
        path = self.where
        for step in steps:
            path = f"{path}[{step}]" if isinstance(step, int) else join(path, step)
        return child(self.origin, *steps), path

    def states(self, name: str) -> bool:
        """Whether the file gives the field, with a value other than null."""
        return isinstance(self.origin, Mapping) and not is_null(self.origin.entries.get(name, _NOWHERE))


def entry(
    shape: Shape, description: str, *, default: Any = None, required: bool = False, example: Any = None
) -> Any:
    """Declare a field of a :class:`Record`.

    Args:
        shape: what it may hold.
        description: one or two sentences for the schema.
        default: its value where the file leaves it out or says null.
        required: that it must be there; ``default`` is not used then.
        example: for the schema, where the shape alone says too little.
    """
    return Entry(shape, description, required, default, example)


def entries(cls: type[Record]) -> dict[str, Entry]:
    """The declared fields of a record class, by name."""
    declared: dict[str, Entry] = {}
    for base in reversed(cls.__mro__):
        declared |= _DECLARED.get(base, {})
    return declared


class Section(Shape):
    """The shape of a map that becomes a :class:`Record`; unknown keys are errors."""

    def __init__(self, cls: type[Record]) -> None:
        self.cls = cls
        self.declared = entries(cls)

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.error(node, path, f"expected {self.cls.noun}, got {describe(node)}")
            return INVALID
        report_repeated(node, path, report)
        values: dict[str, Any] = {}
        broken: dict[str, Node] = {}
        for key, item in node.entries.items():
            if (known := self.declared.get(key)) is None:
                meant = self._field_meant_by(key, report)
                report.error(
                    node.keys[key], join(path, key), f"unknown key {quoted(key)}", self._hint_for(meant)
                )
                if meant is not None and meant not in node.entries:
                    broken.setdefault(meant, item)
            elif known.required or not is_null(item):
                value = known.shape.read(item, join(path, key), report)
                if value is INVALID:
                    broken[key] = item
                else:
                    values[key] = value
        for name, known in self.declared.items():
            if known.required and name not in node.entries and name not in broken:
                report.error(node, path, f"{quoted(name)} is missing", f"add '{name}: ...'")
        return self.cls(origin=node, where=path, broken=broken or _SOUND, **values)

    def _field_meant_by(self, key: str, report: Report) -> str | None:
        known = report.misspelt
        if (self, key) not in known:
            known[self, key] = closest(key, self.declared) if len(known) < MAX_SEARCHED_HINTS else None
        return known[self, key]

    def _hint_for(self, meant: str | None) -> str:
        if meant is not None:
            return f"did you mean {quoted(meant)}?"
        names = list(self.declared)
        return f"the keys here are {', '.join(names)}" if len(names) <= 8 else "remove it"

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.cls.__name__}"}
