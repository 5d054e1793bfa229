# ruff: noqa: E501
"""Parameters: values, formats, combinations, substitution."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.workflow import Loaded, SpecError, load
from torc_supervise.workflow.parameters import combinations, count_combinations, parse_parameter
from torc_supervise.workflow.templates import formatter, plain


def from_text(text: str) -> Loaded:
    return load("-", user="u", stdin=io.BytesIO(text.encode()))


def names_of(job: str) -> list[str]:
    return [job.name for job in from_text(f"name: w\njobs:\n  - {job}\n").workflow.jobs]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1:4", [1, 2, 3, 4]), ("1:10:4", [1, 5, 9]), ("5:1", []), ("5:1:-2", [5, 3, 1]), ("3:3", [3]), ("-1:1", [-1, 0, 1]),
        ("0.0:1.0:0.25", [0.0, 0.25, 0.5, 0.75, 1.0]), ("1.0:0.0:-0.5", [1.0, 0.5, 0.0]), ("1.5:3", [1.5, 2.5]),
        ("[1, 2.5, a, 'b', \"c d\"]", [1, 2.5, "a", "b", "c d"]), ("[]", []), ("[ ]", []), ("['http://x']", ["http://x"]),
        ("7", [7]), ("1e3", [1000.0]), ("text", ["text"]), (" {1:3} ", [1, 2, 3]), ("nan", ["nan"]), ("1_0", ["1_0"]),
        ("0.0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
    ],
)  # fmt: skip
def test_values(text: str, values: list[object]) -> None:
    assert list(parse_parameter(text)) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1:2:3:4", "expected 'start:end' or 'start:end:step'"),
        ("1:5:0", "is zero"),
        ("1.0:5.0:0.0", "is zero"),
        ("1:5:x", "must be whole"),
        ("1.0:5.0:x", "must be a number"),
        ("http://x", "ends must be numbers"),
        ("1:", "ends must be numbers"),
        ("1:99999999", "at most 1,000,000"),
        ("0.0:1.0:1e-300", "at most 1,000,000"),
        ("nan:1", "ends must be numbers"),
    ],
)
def test_values_refuse(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_parameter(text)


@given(st.text(alphabet="0123456789.:-+eE[]{},' ainf"))
def test_values_raise_nothing_but_value_error(text: str) -> None:
    try:
        assert len(parse_parameter(text)) <= 1_000_000
    except ValueError:
        pass  # the only way to refuse


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (7, None, "7"), (7, "03d", "007"), (-7, "04d", "-007"), (7, "3d", "7"), (1.0, None, "1"), (0.5, None, "0.5"),
        (1e-7, None, "0.0000001"), (1e21, None, "1000000000000000000000"), (2.5, ".2f", "2.50"), (7, ".1f", "7.0"),
        (2.0, "03d", "2"), ("x", "03d", "x"), ("x", ".2f", "x"), (0.1, None, "0.1"),
    ],
)  # fmt: skip
def test_formats(value: object, spec: str | None, text: str) -> None:
    assert formatter(spec)(value) == text  # type: ignore[arg-type]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_print_plainly_and_read_back(value: float) -> None:
    text = plain(value)
    assert "e" not in text.lower()
    assert float(text) == value


def test_product_varies_the_last_parameter_fastest() -> None:
    assert names_of("{name: '{a}{b}', command: x, parameters: {a: '1:2', b: '[x, y]'}}") == [
        "1x",
        "1y",
        "2x",
        "2y",
    ]


def test_zip_goes_element_by_element() -> None:
    job = "{name: '{a}{b}', command: x, parameters: {a: 1:2, b: [x, y]}, parameter_mode: zip}"
    assert names_of(job) == ["1x", "2y"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_count_is_the_number_of_combinations(sizes: list[int]) -> None:
    parameters = {f"p{number}": range(size) for number, size in enumerate(sizes)}
    assert count_combinations(parameters, "product") == len(list(combinations(parameters, "product")))


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("{i: 5}", ["j5"]), ("{i: 1.50}", ["j1.5"]), ("{i: true}", ["jtrue"]), ("{i: [1, 2.0, x, '007', on]}",
         ["j1", "j2", "jx", "j007", "jon"]),
        ("{i: 1:3}", ["j1", "j2", "j3"]), ("{i: '[a,b]'}", ["ja", "jb"]),
    ],
)  # fmt: skip
def test_native_values_are_taken(parameters: str, names: list[str]) -> None:
    assert names_of(f"{{name: 'j{{i}}', command: x, parameters: {parameters}}}") == names


def test_every_token_in_every_field_is_replaced() -> None:
    text = """
name: w
files: [{name: 'f{i}', path: 'd/{i:03d}', parameters: {i: 1:2}}]
user_data: [{name: u1, data: 1}, {name: u2, data: 2}]
resource_requirements: [{name: r1, num_cpus: 1, memory: 1g}, {name: r2, num_cpus: 2, memory: 1g}]
slurm_schedulers: [{name: s1, account: a}, {name: s2, account: a}]
jobs:
  - {name: 'p{i}', command: x, parameters: {i: 1:2}}
  - name: 'j_{i}_{i:02d}_{i}'
    command: '{i} {i:03d} {i:.1f} {j} {} ${HOME} {i:zz} {k} {{i}}'
    invocation_script: 'run {i}'
    resource_requirements: 'r{i}'
    scheduler: 's{i}'
    checkpoint: 'c/{i}'
    env: {A: '{i}', B: b}
    depends_on: ['p{i}']
    depends_on_regexes: ['^p{i}$']
    input_files: ['f{i}']
    output_user_data: ['u{i}']
    parameters: {i: 1:2}
"""
    second = from_text(text).workflow.jobs[3]
    assert second.name == "j_2_02_2"
    assert second.command == "2 002 2.0 {j} {} ${HOME} {i:zz} {k} {2}"
    assert (second.invocation_script, second.checkpoint, second.scheduler) == ("run 2", "c/2", "s2")
    assert second.requirements.num_cpus == 2
    assert second.env == {"A": "2", "B": "b"}
    assert second.depends_on == (2,)
    assert (second.input_files, second.output_user_data) == (("f2",), ("u2",))


def test_values_are_not_substituted_again() -> None:
    assert names_of("{name: '{a}{b}', command: x, parameters: {a: ['{b}'], b: [1]}}") == ["{b}1"]


def test_workflow_parameters_apply_only_when_named() -> None:
    text = """
name: w
parameters: {i: 1:2, j: [x]}
jobs:
  - {name: plain, command: '{i}'}
  - {name: 'used_{i}{j}', command: x, use_parameters: [j, i]}
  - {name: 'own_{i}', command: x, parameters: {i: [9]}, use_parameters: [j]}
"""
    workflow = from_text(text).workflow
    assert [job.name for job in workflow.jobs] == ["plain", "used_1x", "used_2x", "own_9"]
    assert workflow.jobs[0].command == "{i}"


@pytest.mark.parametrize("values", ["5:1", "[]"])
def test_no_values_make_no_jobs_and_a_warning(values: str) -> None:
    loaded = from_text(f"name: w\njobs:\n  - {{name: 'a{{i}}', command: x, parameters: {{i: {values}}}}}\n")
    assert loaded.workflow.jobs == ()
    (warning,) = loaded.warnings
    assert "makes no jobs: the parameter 'i' has no values" in warning.render()


def test_too_many_jobs_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    import torc_supervise.workflow.expand as expand

    def never(*_: object) -> Callable[[], None]:
        raise AssertionError("the expansion was built")

    monkeypatch.setattr(expand, "combinations", never)
    with pytest.raises(SpecError, match="job 'a' expands to 1,000,000,000 jobs"):
        names_of("{name: a, command: x, parameters: {i: 1:1000, j: 1:1000, k: 1:1000}}")


def test_the_limit_counts_all_jobs_together() -> None:
    text = "name: w\njobs:\n"
    text += "  - {name: 'a{i}', command: x, parameters: {i: 1:2}}\n"
    text += "  - {name: 'b{i}{j}', command: x, parameters: {i: 1:1000, j: 1:1000}}\n"
    with pytest.raises(SpecError, match=r"'b\{i\}\{j\}' expands to 1,000,000 jobs"):
        from_text(text)
