"""Random values in known fields: each file loads and survives the journal, or is refused with its mistakes."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from torc_supervise.store.jsontext import dumps, loads
from torc_supervise.workflow import Loaded, SpecError, load
from torc_supervise.workflow.containers import Either, ListOf, MapOf
from torc_supervise.workflow.model import Workflow
from torc_supervise.workflow.records import Record, Section, entries
from torc_supervise.workflow.shapes import Choice, Shape
from torc_supervise.workflow.spec import WorkflowSpec

WORDS = st.sampled_from(
    [
        "a",
        "b",
        "a_{i}",
        "^a",
        "(",
        "1:3",
        "[x, y]",
        "4g",
        "PT1H",
        "TERM",
        "i",
        "u",
        "default",
        "",
        "\n",
        "1-2",
    ]
)
VARIABLES = st.sampled_from(["${files.input.a}", "${user_data.output.u}", "${files.x}", "{i:03d}", "${HOME}"])
SCALARS = (
    WORDS
    | VARIABLES
    | st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from([1e9, 0.5, 10**30, -0.0])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2)
)


def values_of(shape: Shape, depth: int) -> st.SearchStrategy[Any]:
    """Mostly values of about the right kind, sometimes anything."""
    fitting: st.SearchStrategy[Any] = SCALARS
    if isinstance(shape, Section):
        fitting = maps_of(shape.cls, depth + 1)
    elif isinstance(shape, ListOf):
        fitting = st.lists(values_of(shape.item, depth), max_size=3)
    elif isinstance(shape, MapOf):
        fitting = st.dictionaries(st.sampled_from(["i", "j", "A", "=", ""]), SCALARS, max_size=2)
    elif isinstance(shape, Either):
        fitting = values_of(shape.scalar, depth) | values_of(shape.mapping, depth)
    elif isinstance(shape, Choice):
        fitting = st.sampled_from(shape.choices)
    return st.one_of(fitting, fitting, fitting, fitting, ANYTHING if depth < 2 else SCALARS)


def maps_of(cls: type[Record], depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    declared = entries(cls)
    required = {name: values_of(known.shape, depth) for name, known in declared.items() if known.required}
    optional = {name: values_of(known.shape, depth) for name, known in declared.items() if not known.required}
    optional["unknown"] = SCALARS
    return st.fixed_dictionaries(required, optional=optional)


def outcome(text: str) -> Loaded | SpecError:
    try:
        return load("-", user="u", stdin=io.BytesIO(text.encode()))
    except SpecError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(maps_of(WorkflowSpec))
def test_random_files_load_or_are_refused(data: dict[str, Any]) -> None:
    result = outcome(json.dumps(data, indent=1))
    if isinstance(result, SpecError):
        assert len(str(result).splitlines()) == len(result.problems) > 0
        assert all(problem.line for problem in result.problems)
        return
    workflow = result.workflow
    assert Workflow.from_dict(loads(dumps(workflow.to_dict()))) == workflow
    assert [job.job_id for job in workflow.jobs] == list(range(1, len(workflow.jobs) + 1))
    assert len({job.name for job in workflow.jobs}) == len(workflow.jobs)


JOBS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b", "c", "d{i}", "e{i:02d}"]), "command": VARIABLES},
        optional={
            "depends_on": st.lists(st.sampled_from(["a", "b", "d1", "e0{i}"]), max_size=2),
            "depends_on_regexes": st.lists(st.sampled_from(["a", "^d", "^d{i}$", "e.*"]), max_size=2),
            "input_files": st.lists(st.sampled_from(["a", "f{i}"]), max_size=2),
            "output_files": st.lists(st.sampled_from(["a", "f{i}"]), max_size=2),
            "parameters": st.just({"i": "1:3"}),
        },
    ),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(JOBS)
def test_dependencies_never_point_to_the_job_itself(jobs: list[dict[str, Any]]) -> None:
    files = [{"name": "a", "path": "a"}, {"name": "f{i}", "path": "f{i}", "parameters": {"i": [1, 2, 3]}}]
    result = outcome(json.dumps({"name": "w", "files": files, "user_data": [{"name": "u"}], "jobs": jobs}))
    if isinstance(result, SpecError):
        return
    ids = {job.job_id for job in result.workflow.jobs}
    for job in result.workflow.jobs:
        assert set(job.depends_on) <= ids - {job.job_id}
        assert list(job.depends_on) == sorted(set(job.depends_on))
