"""docs/states.md and docs/events.md say what the code says."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from types import ModuleType

import pytest

from support.sources import ROOT, warning_codes
from torc_supervise.helpers import last_will
from torc_supervise.machine import phases
from torc_supervise.machine.records import RECORD_TYPES, Record
from torc_supervise.machine.status import Ended, RunState, Status, StopReason

EVENTS = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
STATES = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", EVENTS, re.M | re.S)
    assert match is not None, f"docs/events.md has no section '{title}'"
    return match[1]


def first_column(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.M)


# -- states.md --------------------------------------------------------------------------------------------------


def test_states_md_is_what_the_tables_say() -> None:
    assert generator().states() == STATES, "run scripts/generate_docs.py"


def test_the_generators_samples_reach_every_phase_and_event() -> None:
    module = generator()
    assert {type(x) for x in module.sample_phases()} == set(phases.PHASES)
    moves = module.transitions()
    assert {to for _, to in moves} | {"Starting"} == {x.__name__ for x in phases.PHASES}


def test_every_word_that_users_see_is_explained() -> None:
    module = generator()
    assert set(module.STATUS_MEANING) == set(Status)
    assert set(module.ENDED_MEANING) == set(Ended)
    assert set(module.RUN_STATE_MEANING) == set(RunState)


# -- events.md --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", RECORD_TYPES.values(), ids=lambda cls: cls.event)
def test_every_field_of_a_record_is_documented_and_no_other(cls: type[Record]) -> None:
    documented = first_column(section(cls.event).split("| code |")[0])
    assert documented == list(cls.__struct_fields__), "in the record's own order"


def test_no_event_is_documented_that_there_is_not() -> None:
    others = {"Every line", "Reasons"}
    assert set(re.findall(r"^## (.+)$", EVENTS, re.M)) - others == set(RECORD_TYPES)


def test_every_warning_code_is_documented_and_no_other() -> None:
    codes = warning_codes()
    assert len(codes) >= 10, "the scan finds them"
    assert set(first_column(section("warning").split("| code |")[1])) == codes


def test_every_reason_is_documented_and_no_other() -> None:
    assert set(first_column(section("Reasons"))) == {*(why.value for why in StopReason), last_will.WHY}


def test_every_way_to_end_is_named_with_the_field() -> None:
    assert all(f"`{how.value}`" in section("job_ended") for how in Ended)


def test_links_between_the_pages_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", t.lower()).replace(" ", "-")
        for t in re.findall(r"^## (.+)$", STATES, re.M)
    }
    assert set(re.findall(r"states\.md#([\w-]+)", EVENTS)) <= anchors
