"""Each promise of DESIGN section 1 is named by a test, and each test that the code refers to exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from support.sources import ROOT, all_tests, files, name, tree

PROMISES = [f"P{n}" for n in range(1, 15)]

# Promises whose tests are still to be written; take them out as they come.
PENDING: set[str] = set()


@cache
def named() -> dict[str, set[str]]:
    """promise -> tests that name it, in their name (``test_p4_...``) or their docstring."""
    found: dict[str, set[str]] = {promise: set() for promise in PROMISES}
    for path, function in all_tests():
        text = ast.get_docstring(function) or ""
        numbers = re.findall(r"(?:^test|_)_?p(\d+)(?=_)", function.name)
        numbers += re.findall(r"\bP(\d+)\b", text)
        for number in numbers:
            found.setdefault(f"P{number}", set()).add(f"{name(path)}::{function.name}")
    return found


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_named_by_a_test(promise: str) -> None:
    if not named()[promise] and promise in PENDING:
        pytest.skip("its test is still to be written")
    assert named()[promise], f"no test says that it is about {promise}"


def test_no_test_names_a_promise_that_there_is_not() -> None:
    assert set(named()) == set(PROMISES)


def references() -> list[tuple[str, str, str]]:
    """(where, test file, test function) of every ``Test: file.py::name`` in the program's comments and docstrings."""
    found = []
    for path in files("supervisor", "cli"):
        for file, function in re.findall(r"\b(test_\w+\.py)::(\w+)", path.read_text(encoding="utf-8")):
            found.append((name(path), file, function))
    return found


def test_a_race_comment_names_a_test_that_exists() -> None:
    there = {(path.name, node.name) for path, node in all_tests()}
    assert [found for found in references() if found[1:] not in there] == []


@pytest.mark.parametrize("page", ["faults.md", "security.md"])
def test_a_page_names_tests_that_exist(page: str) -> None:
    there = {(path.name, node.name) for path, node in all_tests()}
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert len(named) >= 15, "the scan finds them"
    assert [found for found in named if found not in there] == []


def test_test_names_are_not_used_twice_in_a_file() -> None:
    """The second definition would silently replace the first."""
    for path in files("tests"):
        functions = [node.name for node in tree(path).body if isinstance(node, ast.FunctionDef)]
        assert len(functions) == len(set(functions)), name(path)


def test_the_design_decisions_that_the_code_names_exist() -> None:
    numbers = {p.name[:4] for p in (ROOT / "docs" / "decisions").glob("0*.md")}
    for path in files("supervisor", "cli"):
        for number in re.findall(r"docs/decisions/(\d{4})", path.read_text(encoding="utf-8")):
            assert number in numbers, name(path)
