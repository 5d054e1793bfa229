# ruff: noqa: E501
"""One report has everything that can be told, and nothing that only follows from another mistake."""

from __future__ import annotations

import io

import pytest

from torc_supervise.workflow import SpecError, load


def errors(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load("-", user="u", stdin=io.BytesIO(text.encode()))
    return [line.removeprefix("<stdin>:") for line in str(caught.value).splitlines()]


MANY_OF_EACH = """\
name: w
jbos: 1
resource_monitor: {enabled: yes}
execution_config: {mode: slurmm, srun_termination_signal: TERM@120, enable_cpu_bind: true}
files:
  - {name: f, path: f.csv}
  - {name: g, path: g.csv}
  - {name: 'h_{i}', path: 'h{i}', parameters: {i: 1:5:0}}
  - {name: 5, path: five}
resource_requirements: [{name: big, num_cpus: none, memory: 1g}]
jobs:
  - {name: a, command: x, depends_on: [c, nope], output_files: [f]}
  - {name: b, command: x, depends_on: [a], output_files: [f, g]}
  - {name: c, command: x, depends_on: [b], output_files: [f, g], priority: high}
  - {name: p, command: x, depends_on: [q]}
  - {name: q, command: x, depends_on: [p], priority: -1}
  - {name: self, command: x, depends_on: [self]}
  - name: 'sweep_{i}'
    command: 'x ${files.input.no1} ${files.input.no2} ${files.input.no_{i}} ${files.input.h_7}'
    parameters: {i: 1:100}
    input_files: [no3, 'no4_{i}', 'h_{i}', '5', x]
    depends_on: ['sweep_{i}']
  - name: 'broken_{i}'
    command: 'x ${files.output.no5}'
    parameters: {i: '1:x'}
    depends_on: [nope, 'a', 'a_{i}', 7]
    resource_requirements: small
  - {name: last, command: x, depends_on: [broken_3, broken, 1, nope], depends_on_regexes: [broken_1, '(', {}, zzz], input_files: no}
"""

# Nothing says what {i} of 'broken_{i}' is, so it may be what 'zzz' looks for, and 'broken_3'; but not 'broken'.
THEIR_ERRORS = """\
2:1: jbos: unknown key 'jbos'; did you mean 'jobs'?
3:29: resource_monitor.enabled: expected true or false, got the text 'yes'; write true
4:26: execution_config.mode: expected 'direct', 'slurm' or 'auto', got the text 'slurmm'; did you mean 'slurm'?
8:51: files[2].parameters.i: the step of the range '1:5:0' is zero
9:12: files[3].name: expected a name, got the whole number 5; put it in quotes
10:47: resource_requirements[0].num_cpus: expected a whole number, got the text 'none'
12:40: jobs[0].depends_on[0]: these jobs wait for each other: a -> c -> b -> a; remove one of the dependencies
12:43: jobs[0].depends_on[1]: no job named 'nope'
13:59: jobs[1].output_files[0]: the file 'f' is written by two jobs, 'a' and 'b'; give each of them a file of its own
14:59: jobs[2].output_files[0]: the file 'f' is written by two jobs, 'a' and 'c'; give each of them a file of its own
14:62: jobs[2].output_files[1]: the file 'g' is written by two jobs, 'b' and 'c'; give each of them a file of its own
14:76: jobs[2].priority: expected a whole number, got the text 'high'
15:40: jobs[3].depends_on[0]: these jobs wait for each other: p -> q -> p; remove one of the dependencies
16:54: jobs[4].priority: must be at least 0, got -1
17:43: jobs[5].depends_on[0]: the job waits for itself: self -> self; remove one of the dependencies
19:14: jobs[6].command: '${files.input.no1}': no file named 'no1'
19:14: jobs[6].command: '${files.input.no2}': no file named 'no2'
19:14: jobs[6].command: '${files.input.no_1}': no file named 'no_1'
21:19: jobs[6].input_files[0]: no file named 'no3'
21:24: jobs[6].input_files[1]: no file named 'no4_1'
21:49: jobs[6].input_files[4]: no file named 'x'
22:18: jobs[6].depends_on[0]: the job waits for itself: sweep_1 -> sweep_1; remove one of the dependencies
24:14: jobs[7].command: '${files.output.no5}': no file named 'no5'
25:21: jobs[7].parameters.i: invalid range '1:x': its ends must be numbers; a single text with ':' goes into a list, ['...']
26:18: jobs[7].depends_on[0]: no job named 'nope'
26:38: jobs[7].depends_on[3]: expected a name, got the whole number 7; put it in quotes
27:28: jobs[7].resource_requirements: no resource_requirements entry named 'small'
28:53: jobs[8].depends_on[1]: no job named 'broken'
28:61: jobs[8].depends_on[2]: expected a name, got the whole number 1; put it in quotes
28:64: jobs[8].depends_on[3]: no job named 'nope'
28:102: jobs[8].depends_on_regexes[1]: '(' is not a regular expression: missing ), unterminated subpattern at position 0
28:107: jobs[8].depends_on_regexes[2]: expected a regular expression, got a map
28:130: jobs[8].input_files: expected a list, got the text 'no'; write it in brackets: [...]
"""


def test_many_of_each_in_one_report() -> None:
    assert errors(MANY_OF_EACH) == THEIR_ERRORS.splitlines()


# What follows from a mistake is not reported: the file, and how many errors it has.
FOLLOWING = {
    "files as a map": ("files: {f: x}\njobs: [{name: a, command: 'x ${files.input.f}', input_files: [g]}]", 1),
    "a misspelt section": ("file: [{name: f, path: f}]\njobs: [{name: a, command: x, input_files: [f]}]", 1),
    "a misspelt name": (
        "jobs: [{nmae: a, command: x}, {name: b, command: x, depends_on: [a, zz]}]",
        2,  # zz
    ),
    "a missing name": ("jobs: [{command: x}, {name: b, command: x, depends_on: [a], depends_on_regexes: [z]}]", 1),
    "an invalid name": ('jobs: [{name: "a\\t", command: x}, {name: b, command: x, depends_on: ["a\\t", zz]}]', 3),
    "two jobs without a dash": (
        "jobs:\n  - name: a\n    command: x\n    name: b\n    command: y\n  - {name: c, command: x, depends_on: [b]}",
        2,
    ),
    "a name as an item": ("jobs: [a, {name: b, command: x, depends_on: [a, zz]}]", 2),
    "parameters under a misspelt key": (
        "jobs: [{name: 'a_{i}', command: x, parameter: {i: 1:2}}, {name: b, command: x, depends_on: [a_1, c_1]}]",
        2,
    ),
    "a mode that is none": (
        "jobs: [{name: 'a_{i}', command: x, parameters: {i: 1:2, j: 1:2}, parameter_mode: zpi}]",
        1,
    ),
    "shared parameters with a mistake": (
        "parameters: {i: 1:2:0}\njobs: [{name: 'a_{i}', command: x, use_parameters: [i, k]}]",
        2,  # k
    ),
    "shared parameters that are no map": (
        "parameters: [i]\njobs: [{name: 'a_{i}', command: x, use_parameters: [i]}]",
        1,
    ),
    "a pattern for the job whose name is missing": (
        "jobs: [{command: x}, {name: b, command: x, depends_on_regexes: ['.']}]",
        1,
    ),
    "requirements as a map": (
        "resource_requirements: {big: {num_cpus: 1, memory: 1g}}\njobs: [{name: a, command: x, resource_requirements: big}]",
        1,
    ),
    "a scheduler with a number for a name": (
        "slurm_schedulers: [{name: 5, account: a}]\njobs: [{name: a, command: x, scheduler: '5'}]",
        1,
    ),
    "misspelt commands": (
        "jobs: []\nactions: [{trigger_type: on_workflow_start, action_type: run_commands, command: [x]}]",
        1,
    ),
    "misspelt exit codes": ("jobs: []\nfailure_handlers: [{name: h, rules: [{exit_code: [1]}]}]", 1),
    "no jobs": ("actions: [{trigger_type: on_jobs_ready, action_type: run_commands, commands: [x], jobs: [a]}]", 1),
    "a bad regex beside a cycle": (
        "files: [{name: f, path: f}]\njobs: [{name: a, command: x, depends_on_regexes: ['('], input_files: [f], output_files: [f]}]",
        2,
    ),
    "nameless jobs in a cycle": (
        "files: [{name: f, path: f}]\njobs: [{command: x, input_files: [f], output_files: [f]}]",
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "count"), FOLLOWING.values(), ids=FOLLOWING.keys())
def test_nothing_follows_from_a_mistake(text: str, count: int) -> None:
    assert len(found := errors(f"name: w\n{text}\n")) == count, found


def test_jobs_without_a_name_are_called_by_their_place() -> None:
    text = "name: w\nfiles: [{name: f, path: f}]\njobs: [{command: x, input_files: [f], output_files: [f]}]\n"
    assert any("jobs[0] -> jobs[0]" in line for line in errors(text))
