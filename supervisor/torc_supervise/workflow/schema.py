"""The JSON Schema of workflow files, for editors."""

from __future__ import annotations

import inspect
from typing import Any

from torc_supervise.workflow.containers import Either, ListOf
from torc_supervise.workflow.records import Record, Section, entries
from torc_supervise.workflow.shapes import Schema, Shape
from torc_supervise.workflow.spec import WorkflowSpec


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of workflow files with a description of every field.

    It is what an editor needs to complete and to underline; :func:`torc_supervise.workflow.load` checks more.
    """
    definitions: dict[str, Schema] = {}
    _define(WorkflowSpec, definitions)
    top = definitions.pop(WorkflowSpec.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "torc-supervise workflow",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def _define(cls: type[Record], definitions: dict[str, Schema]) -> None:
    """Add the definition of a record and of the records that it holds."""
    if cls.__name__ in definitions:
        return
    declared = entries(cls)
    properties: dict[str, Schema] = {}
    definitions[cls.__name__] = {
        "type": "object",
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "properties": properties,
        "required": [name for name, known in declared.items() if known.required],
        "additionalProperties": False,
    }
    for name, known in declared.items():
        schema = known.shape.schema()
        if not known.required:
            schema = {"anyOf": [schema, {"type": "null"}]} if schema else {}
            if isinstance(known.default, (str, int, float)):
                schema["default"] = known.default
        properties[name] = {"description": known.description, **schema}
        for inner in _records_in(known.shape):
            _define(inner, definitions)


def _records_in(shape: Shape) -> list[type[Record]]:
    if isinstance(shape, Section):
        return [shape.cls]
    if isinstance(shape, ListOf):
        return _records_in(shape.item)
    if isinstance(shape, Either):
        return _records_in(shape.scalar) + _records_in(shape.mapping)
    return []
