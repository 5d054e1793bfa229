# ruff: noqa: E501
"""References between jobs, files and user_data; the graph; the plan."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.workflow import Loaded, SpecError, load, plan
from torc_supervise.workflow.graph import find_cycles, levels
from torc_supervise.workflow.names import NameIndex


def from_text(text: str) -> Loaded:
    return load("-", user="u", stdin=io.BytesIO(text.encode()))


def dependencies(text: str) -> dict[str, list[str]]:
    jobs = from_text(text).workflow.jobs
    names = {job.job_id: job.name for job in jobs}
    return {job.name: [names[needed] for needed in job.depends_on] for job in jobs}


def test_written_matched_and_implied_dependencies() -> None:
    text = """
name: w
files: [{name: f, path: f.csv}, {name: g, path: g.csv}]
user_data: [{name: u, data: {a: 1}}]
jobs:
  - {name: job_1, command: x, output_files: [f]}
  - {name: job_10, command: x, output_file_regexes: [^g]}
  - {name: other, command: x, output_user_data: [u]}
  - {name: by_name, command: x, depends_on: [other, other, job_1]}
  - {name: by_regex, command: x, depends_on_regexes: [job_1, '1$']}
  - {name: by_file, command: x, input_files: [g]}
  - {name: by_file_regex, command: x, input_file_regexes: ['^[fg]$']}
  - {name: by_user_data, command: x, input_user_data_regexes: [u]}
"""
    assert dependencies(text) == {
        "job_1": [],
        "job_10": [],
        "other": [],
        "by_name": ["job_1", "other"],
        "by_regex": ["job_1", "job_10"],  # searched, not anchored
        "by_file": ["job_10"],
        "by_file_regex": ["job_1", "job_10"],
        "by_user_data": ["other"],
    }


def test_a_regex_never_makes_a_job_wait_for_itself() -> None:
    assert dependencies(
        "name: w\njobs:\n  - {name: a1, command: x}\n  - {name: a2, command: x, depends_on_regexes: [a]}\n"
    ) == {
        "a1": [],
        "a2": ["a1"],
    }


def test_each_job_of_a_sweep_leaves_out_only_itself() -> None:
    text = "name: w\njobs:\n  - {name: b, command: x, depends_on_regexes: ['^w_']}\n"
    text += "  - {name: 'w_{i}', command: x, parameters: {i: 1:3}}\n"
    assert dependencies(text)["b"] == ["w_1", "w_2", "w_3"]


def test_variables_are_replaced_and_add_to_the_lists() -> None:
    text = """
name: w
files: [{name: in, path: data/in.csv}, {name: 'out_{i}', path: 'out/{i}.csv', parameters: {i: 1:2}}, {name: x, path: x}]
user_data: [{name: conf, data: {é: [1, null, "a b"]}}, {name: res}]
jobs:
  - name: 'a_{i}'
    command: 'run ${files.input.in} -o ${files.output.out_{i}} ${user_data.input.conf} ${files.input.in} ${HOME} $files.x'
    invocation_script: 'wrap ${user_data.output.res}'
    input_files: [x]
    parameters: {i: 1:2}
  - {name: b, command: 'cat ${files.input.out_2}'}
"""
    jobs = from_text(text).workflow.jobs
    assert jobs[1].command == 'run data/in.csv -o out/2.csv {"é":[1,null,"a b"]} data/in.csv ${HOME} $files.x'
    assert jobs[1].invocation_script == "wrap null"
    assert (jobs[1].input_files, jobs[1].output_files) == (("x", "in"), ("out_2",))
    assert (jobs[1].input_user_data, jobs[1].output_user_data) == (("conf",), ("res",))
    assert jobs[2].depends_on == (2,)


def test_two_writers_of_a_file_are_refused_but_not_of_user_data() -> None:
    shared = "name: w\nfiles: [{name: f, path: f}]\nuser_data: [{name: f}]\njobs:\n"
    writers = "".join(f"  - {{name: {name}, command: x, output_KIND: [f]}}\n" for name in "ab")
    reader = "  - {name: c, command: x, input_KIND: [f]}\n"
    with pytest.raises(SpecError, match="the file 'f' is written by two jobs, 'a' and 'b'"):
        from_text(shared + (writers + reader).replace("KIND", "files"))
    assert dependencies(shared + (writers + reader).replace("KIND", "user_data"))["c"] == ["a", "b"]


@pytest.mark.parametrize("length", [1, 2, 3, 500])
def test_cycles_of_any_length_are_one_error(length: int) -> None:
    text = "name: w\njobs:\n" + "".join(
        f"  - {{name: j{n}, command: x, depends_on: [j{(n + 1) % length}]}}\n" for n in range(length)
    )
    with pytest.raises(SpecError) as caught:
        from_text(text)
    (problem,) = caught.value.problems
    assert problem.path.endswith("depends_on[0]")
    assert problem.message.count("j0") == 2
    assert len(problem.message) < 200


def test_a_cycle_through_regexes_is_placed_at_the_regex() -> None:
    text = "name: w\njobs:\n  - {name: a, command: x, depends_on_regexes: [^b]}\n  - {name: b, command: x, depends_on: [a]}\n"
    with pytest.raises(SpecError) as caught:
        from_text(text)
    assert caught.value.problems[0].path == "jobs[0].depends_on_regexes[0]"


def test_long_chains_do_not_recurse() -> None:
    chain: list[list[int]] = [[], *([n] for n in range(50_000))]
    assert levels(chain)[-1] == 50_000
    assert find_cycles(chain) == []
    chain[0] = [50_000]
    (cycle,) = find_cycles(chain)
    assert len(cycle) == 50_001


@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n, max_size=n)))
def test_levels_and_cycles_agree(graph: list[set[int]]) -> None:
    depends_on = [sorted(needed) for needed in graph]
    level = levels(depends_on)
    cycles = find_cycles(depends_on)
    assert (cycles == []) == (-1 not in level)
    members = [job for cycle in cycles for job in cycle]
    assert len(set(members)) == len(members)
    others = [
        [] if job in members else [n for n in needed if n not in members] for job, needed in enumerate(graph)
    ]
    assert -1 not in levels(others)  # nothing is left to report
    for cycle in cycles:
        assert all(
            following in depends_on[job] for job, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
        )
    for job, needed in enumerate(depends_on):
        if level[job] >= 0:
            assert level[job] == max((level[other] + 1 for other in needed), default=0)


@given(
    st.lists(st.text(alphabet="ab1_.", min_size=1, max_size=4), max_size=12),
    st.sampled_from(
        ["^a", "^ab$", "^a*", "^ab?c", "^a{0}b", "a", "^", "$", "^a|b", "^a.", "^ab_1", "^(a)", "^a\\."]
    ),
)
def test_the_index_finds_what_a_plain_search_finds(names: list[str], pattern: str) -> None:
    import re

    expected = tuple(name for name in dict.fromkeys(names) if re.search(pattern, name))
    assert NameIndex("job", names).matching(pattern) == expected


def test_plan_has_stages_and_the_widest_one() -> None:
    text = """
name: w
resource_requirements: [{name: r, num_cpus: 4, memory: 2g, num_gpus: 1}]
jobs:
  - {name: first, command: x}
  - {name: 'wide_{i}', command: x, depends_on: [first], resource_requirements: r, parameters: {i: 1:3}}
  - {name: last, command: x, depends_on_regexes: [wide], supports_termination: true}
  - {name: alone, command: x}
"""
    outline = plan(from_text(text).workflow)
    assert [[job.name for job in stage.jobs] for stage in outline.stages] == [
        ["first", "alone"],
        ["wide_1", "wide_2", "wide_3"],
        ["last"],
    ]
    assert outline.widest is outline.stages[1]
    assert (outline.widest.num_cpus, outline.widest.memory_bytes, outline.widest.num_gpus) == (12, 6 << 30, 3)
    assert [(stage.memory_bytes, stage.memory_not_stated) for stage in outline.stages] == [
        (0, 2),
        (6 << 30, 0),
        (0, 1),
    ]
    assert (outline.jobs, outline.dependencies, outline.supports_termination) == (6, 6, 1)


def test_plan_of_nothing() -> None:
    outline = plan(from_text("name: w\njobs: []\n").workflow)
    assert (outline.stages, outline.widest, outline.jobs) == ((), None, 0)
