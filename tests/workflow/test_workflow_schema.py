"""The JSON schema and the reference page speak of every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from torc_supervise.store.jsontext import dumps
from torc_supervise.workflow import json_schema
from torc_supervise.workflow.inert import NOT_ACTED_ON

PAGE = Path(__file__).parents[2] / "docs" / "workflow-files.md"
SCHEMA = json_schema()


def records() -> dict[str, dict[str, Any]]:
    return {"WorkflowSpec": SCHEMA, **SCHEMA["$defs"]}


def test_every_field_has_a_description() -> None:
    for name, schema in records().items():
        assert schema["description"], name
        assert schema["additionalProperties"] is False
        for field, rule in schema["properties"].items():
            assert len(rule["description"]) > 10, f"{name}.{field}"


def test_schema_is_self_contained_json() -> None:
    text = dumps(SCHEMA).decode()
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["required"] == ["name", "jobs"]
    for reference in re.findall(r'"\$ref":"#/\$defs/(\w+)"', text):
        assert reference in SCHEMA["$defs"]


def test_schema_patterns_are_regular_expressions() -> None:
    for pattern in re.findall(r'"pattern":"((?:[^"\\]|\\.)*)"', dumps(SCHEMA).decode()):
        re.compile(pattern)


@pytest.mark.parametrize("record", sorted(records()))
def test_the_reference_page_has_every_field(record: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [field for field in records()[record]["properties"] if f"`{field}`" not in page]
    assert not missing, f"docs/workflow-files.md says nothing of {record}: {missing}"


def test_the_reference_page_lists_what_is_not_acted_on() -> None:
    listing = PAGE.read_text(encoding="utf-8").partition("## Not acted on yet")[2]
    missing = [label for label in NOT_ACTED_ON.values() if f"`{label}`" not in listing]
    assert not missing
