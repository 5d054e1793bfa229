# ruff: noqa: E501
"""Every mistake of a file at once: the exact lines that the author reads."""

from __future__ import annotations

import io

import pytest

from torc_supervise.workflow import Problem, SpecError, load

# What is wrong -> the file, and its lines without the file's name.
CASES = {
    "fields of the wrong kind": (
        """\
name: 5
jobs:
  - name: a
    command: echo
    support_termination: true
    priority: -1
    resource_requirements: {num_cpus: four, memory: 4GB, runtime: 4h, num_gpu: 1}
  - name: a
    depends_on: [b, c]
  - command: x
    depends_on: a
    supports_termination: yes
    termination_signal: STOP
    sigterm_lead_seconds: .inf
    env: {A=B: 1, B: true, C: [1]}
  - 5
foo: 1
name: dup
""",
        """\
1:7: name: expected a name, got the whole number 5; put it in quotes
5:5: jobs[0].support_termination: unknown key 'support_termination'; did you mean 'supports_termination'?
6:15: jobs[0].priority: must be at least 0, got -1
7:39: jobs[0].resource_requirements.num_cpus: expected a whole number, got the text 'four'
7:53: jobs[0].resource_requirements.memory: '4GB' is not a memory size; write 4g
7:67: jobs[0].resource_requirements.runtime: '4h' is not an ISO 8601 duration; write for example PT30M, PT2H or P1DT12H
7:71: jobs[0].resource_requirements.num_gpu: unknown key 'num_gpu'; did you mean 'num_gpus'?
8:5: jobs[1]: 'command' is missing; add 'command: ...'
8:11: jobs[1].name: there is already a job named 'a', on line 3
10:5: jobs[2]: 'name' is missing; add 'name: ...'
11:17: jobs[2].depends_on: expected a list, got the text 'a'; write it in brackets: [...]
12:27: jobs[2].supports_termination: expected true or false, got the text 'yes'; write true
13:25: jobs[2].termination_signal: SIGSTOP does not ask a program to end; use one of SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU, SIGABRT, SIGKILL
14:27: jobs[2].sigterm_lead_seconds: expected a finite number
15:11: jobs[2].env.A=B: the name of an environment variable cannot be empty or contain '=' or a NUL byte
15:22: jobs[2].env.B: expected text, got true; write 'true', in quotes
15:31: jobs[2].env.C: expected text, got a list
16:5: jobs[3]: expected a map with 'name' and 'command', got the whole number 5
17:1: foo: unknown key 'foo'; remove it
18:1: name: the key 'name' is given twice, first on line 1; remove one of them
""",
    ),
    "names of nothing": (
        """\
name: w
files: [{name: data, path: d.csv}, {name: data, path: e}, {name: o, path: d.csv}]
user_data: [{data: 1}, {name: u, data: .nan}]
resource_requirements: [{name: default, num_cpus: 0, memory: 1.5g}, {name: big, num_cpus: 1, memory: 1g}]
jobs:
  - {name: preprocess, command: 'run ${files.input.dat} ${files.inputs.data} ${user_data.input.zz}'}
  - name: train
    command: x
    depends_on: [preproces]
    depends_on_regexes: ['^nothing', '(', 'train']
    resource_requirements: bigg
    scheduler: s
    failure_handler: h
    input_files: [dat]
    output_files: [data]
  - {name: t2, command: x, output_files: [data]}
""",
        """\
2:43: files[1].name: there is already a file named 'data', on line 2
3:40: user_data[1].data: JSON has no such number; write it as text, in quotes
4:32: resource_requirements[0].name: the name 'default' is reserved for jobs without requirements; choose another name
4:51: resource_requirements[0].num_cpus: must be at least 1, got 0
4:62: resource_requirements[0].memory: '1.5g' is not a memory size: decimals are not accepted; write 1536m
6:33: jobs[0].command: '${files.input.dat}': no file named 'dat'; did you mean 'data'?
6:33: jobs[0].command: '${files.inputs.data}' is not a variable; write ${files.input.NAME} or ${files.output.NAME}
6:33: jobs[0].command: '${user_data.input.zz}': no user_data named 'zz'
9:18: jobs[1].depends_on[0]: no job named 'preproces'; did you mean 'preprocess'?
10:26: jobs[1].depends_on_regexes[0]: '^nothing' matches no job
10:38: jobs[1].depends_on_regexes[1]: '(' is not a regular expression: missing ), unterminated subpattern at position 0
10:43: jobs[1].depends_on_regexes[2]: the pattern matches no job but 'train' itself; a job cannot wait for itself
11:28: jobs[1].resource_requirements: no resource_requirements entry named 'bigg'; did you mean 'big'?
12:16: jobs[1].scheduler: no slurm_schedulers entry named 's'
13:22: jobs[1].failure_handler: no failure_handlers entry named 'h'
14:19: jobs[1].input_files[0]: no file named 'dat'; did you mean 'data'?
16:43: jobs[2].output_files[0]: the file 'data' is written by two jobs, 'train' and 't2'; give each of them a file of its own
""",
    ),
    "a cycle": (
        """\
name: w
jobs:
  - {name: a, command: x, depends_on: [c]}
  - {name: b, command: x, depends_on: [a]}
  - {name: c, command: x, depends_on: [b]}
  - {name: d, command: x, depends_on: [c]}
""",
        """\
3:40: jobs[0].depends_on[0]: these jobs wait for each other: a -> c -> b -> a; remove one of the dependencies
""",
    ),
    "a job that reads what it writes": (
        """\
name: w
files: [{name: f, path: f}]
jobs:
  - {name: a, command: x, input_files: [f], output_files: [f]}
""",
        """\
4:41: jobs[0].input_files[0]: the job waits for itself: a -> a; remove one of the dependencies
""",
    ),
    "parameters": (
        """\
name: w
parameters: {n: '1:3'}
jobs:
  - {name: 'a_{i}', command: x, parameters: {i: 1:0, 'b c': 1}}
  - {name: 'b_{i}', command: x, parameters: {i: 1:2000, j: 1:2000}}
  - {name: 'c_{i}', command: x, parameters: {i: 1:2, j: [1]}, parameter_mode: zip}
  - {name: 'd_{i}', command: x, parameters: {i: 1:10:0, j: 'http://x', k: 1:5:.5, l: {a: 1}, m: 1:9999999999}}
  - {name: 'e', command: x, parameters: {i: 1:3}}
  - {name: 'f_{n}', command: x, use_parameters: [n, m]}
  - {name: 'g_{i}', command: x, parameters: {i: 1:3}, parameter_mode: zipp}
""",
        """\
4:54: jobs[0].parameters.b c: 'b c' cannot be a parameter's name: no spaces, braces or colons
5:45: jobs[1].parameters: job 'b_{i}' expands to 4,000,000 jobs; at most 1,000,000 are allowed in all; use fewer or shorter parameters
6:79: jobs[2].parameter_mode: Failed to expand job 'c_{i}': All parameters must have the same number of values when using 'zip' mode. Parameter 'i' has 2 values, but 'j' has 1 values.
7:49: jobs[3].parameters.i: the step of the range '1:10:0' is zero
7:60: jobs[3].parameters.j: invalid range 'http://x': its ends must be numbers; a single text with ':' goes into a list, ['...']
7:75: jobs[3].parameters.k: invalid step '.5' in the range '1:5:.5': with whole ends it must be whole; write 1.0:5.0:.5 for decimals
7:86: jobs[3].parameters.l: expected a value, a range or a list, got a map
7:97: jobs[3].parameters.m: the range '1:9999999999' has 9,999,999,999 values; at most 1,000,000 are allowed
8:12: jobs[4].name: this makes more than one job named 'e'; put every parameter into the name, for example 'work_{i}'
9:53: jobs[5].use_parameters[1]: no parameter named 'm'; declare it in the workflow's 'parameters'
10:71: jobs[6].parameter_mode: expected 'product' or 'zip', got the text 'zipp'; did you mean 'zip'?
""",
    ),
    "execution, Slurm, actions and handlers": (
        """\
name: w
jobs: []
slurm_defaults: {partition: x, Time: 3, mem: 1, --qos: x, signal: 'B:TRM@3', a: [1]}
execution_config: {mode: slurm, limit_resources: false, termination_signal: TERM, sigterm_lead_seconds: 3, oom_exit_code: 300, srun_mpi: pmi2}
slurm_schedulers: [{name: s, account: a, walltime: 1h, extra: '--signal=B:TERM@70000'}, {walltime: '4:00:00'}]
actions:
  - {trigger_type: on_workflow_started, action_type: run_command}
  - {trigger_type: on_jobs_ready, action_type: run_commands, commands: []}
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: ss, scheduler_type: slurm, jobs: [zz]}
  - {trigger_type: on_workflow_start, action_type: schedule_nodes}
failure_handlers: [{name: h, rules: [{exit_codes: [1]}, {max_retries: 3}]}]
""",
        """\
3:18: slurm_defaults.partition: 'partition' cannot be a default, torc manages it; set it in the slurm_schedulers entry
3:32: slurm_defaults.Time: 'Time' cannot be a default, torc manages it; set it in the slurm_schedulers entry
3:41: slurm_defaults.mem: 'mem' cannot be a default, torc manages it; set it in the slurm_schedulers entry
3:49: slurm_defaults.--qos: '--qos' is not the long name of an sbatch option; write 'qos'
3:67: slurm_defaults.signal: there is no signal 'TRM'; did you mean SIGTERM?
3:81: slurm_defaults.a: expected text, a number or true/false, got a list
4:50: execution_config.limit_resources: 'limit_resources: false' needs mode: direct, but the mode is slurm; remove it or write mode: direct
4:77: execution_config.termination_signal: 'termination_signal' needs mode: direct, but the mode is slurm; remove it or write mode: direct
4:105: execution_config.sigterm_lead_seconds: 'sigterm_lead_seconds' needs mode: direct, but the mode is slurm; remove it or write mode: direct
4:123: execution_config.oom_exit_code: must be at most 255, got 300
4:123: execution_config.oom_exit_code: 'oom_exit_code' needs mode: direct, but the mode is slurm; remove it or write mode: direct
4:138: execution_config.srun_mpi: 'srun_mpi' needs mode: direct, but the mode is slurm; remove it or write mode: direct
5:52: slurm_schedulers[0].walltime: '1h' is not a Slurm time; write MINUTES, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, for example 04:00:00
5:63: slurm_schedulers[0].extra: 70000 seconds is more than Slurm's --signal can hold; at most 65535
5:89: slurm_schedulers[1]: 'account' is missing; add 'account: ...'
7:20: actions[0].trigger_type: expected 'on_workflow_start', 'on_workflow_complete', 'on_jobs_ready', 'on_jobs_complete', 'on_worker_start' or 'on_worker_complete', got the text 'on_workflow_started'; did you mean 'on_workflow_start'?
7:54: actions[0].action_type: expected 'run_commands' or 'schedule_nodes', got the text 'run_command'; did you mean 'run_commands'?
8:5: actions[1]: on_jobs_ready needs 'jobs' or 'job_name_regexes'
8:5: actions[1]: run_commands needs a list of 'commands'
9:79: actions[2].scheduler: no slurm_schedulers entry named 'ss'; did you mean 's'?
9:113: actions[2].jobs[0]: no job named 'zz'
10:5: actions[3]: schedule_nodes needs 'scheduler_type'
10:5: actions[3]: schedule_nodes needs 'scheduler'
11:57: failure_handlers[0].rules[1]: the rule matches no exit code; give exit_codes or match_all_exit_codes: true
""",
    ),
    "names": (
        """\
name: "w\\n"
description: "any\\nthing"
jobs:
  - {name: "", command: "x\\0y", env: {K: "a\\0b"}}
  - {name: "a\\tb", command: " ", checkpoint: "c\\n"}
  - {name: 'p{i}', command: x, parameters: {i: ["", "\\x01"]}}
  - {name: '{i}', command: x, parameters: {i: ["", "z"]}}
files: [{name: f, path: ""}]
""",
        """\
1:7: name: the control character '\\n' is not allowed in a name
4:12: jobs[0].name: expected a name, got empty text
4:25: jobs[0].command: a NUL byte is not allowed here
4:42: jobs[0].env.K: a NUL byte is not allowed in the environment
5:12: jobs[1].name: the control character '\\t' is not allowed in a name
5:29: jobs[1].command: expected a command, got empty text
5:46: jobs[1].checkpoint: the control character '\\n' is not allowed in a path
6:53: jobs[2].parameters.i[1]: a control character is not allowed in a parameter
7:12: jobs[3].name: after substitution: expected a name, got empty text
8:25: files[0].path: expected a path, got empty text
""",
    ),
    "null where required": (
        """\
name: null
jobs:
  - {name: a, command: ~, resource_requirements: {num_cpus: 1}}
  - ~
resource_requirements:
  a: {num_cpus: 1}
resource_monitor: {granularity: time-series, sample_interval_seconds: 0}
execution_config: {mode: driect, stdio: {mode: both}, sigkill_headroom_seconds: -1}
jobs_sort_method: gpu
""",
        """\
1:7: name: expected a name, got nothing (null)
3:24: jobs[0].command: expected a command, got nothing (null)
3:50: jobs[0].resource_requirements: 'memory' is missing; add 'memory: ...'
4:5: jobs[1]: expected a map with 'name' and 'command', got nothing (null)
6:3: resource_requirements: expected a list, got a map
7:33: resource_monitor.granularity: expected 'summary' or 'time_series', got the text 'time-series'; did you mean 'time_series'?
7:71: resource_monitor.sample_interval_seconds: must be more than 0, got 0
8:26: execution_config.mode: expected 'direct', 'slurm' or 'auto', got the text 'driect'; did you mean 'direct'?
8:48: execution_config.stdio.mode: expected 'separate', 'combined', 'no_stdout', 'no_stderr' or 'none', got the text 'both'
8:81: execution_config.sigkill_headroom_seconds: must be at least 0, got -1
9:19: jobs_sort_method: expected 'gpus_runtime_memory', 'gpus_memory_runtime' or 'none', got the text 'gpu'
""",
    ),
    "fields of the wrong mode": (
        """\
name: w
jobs: []
slurm_schedulers: [{name: s, account: a}]
execution_config: {mode: direct, srun_termination_signal: TERM@120, enable_cpu_bind: true, srun_mpi: none}
""",
        """\
4:59: execution_config.srun_termination_signal: 'srun_termination_signal' needs mode: slurm, but the mode is direct; remove it or write mode: slurm
4:86: execution_config.enable_cpu_bind: 'enable_cpu_bind' needs mode: slurm, but the mode is direct; remove it or write mode: slurm
4:102: execution_config.srun_mpi: 'srun_mpi' needs an action with start_one_worker_per_node: true; remove it
""",
    ),
    "auto with schedulers": (
        """\
name: w
jobs: []
slurm_schedulers: [{name: s, account: a}]
execution_config: {mode: auto, limit_resources: false, srun_termination_signal: TERM@120, termination_signal: INT}
""",
        """\
4:49: execution_config.limit_resources: 'limit_resources: false' needs mode: direct, but the mode is auto; remove it or write mode: direct
""",
    ),
    "namespaces of job steps": (
        """\
name: w
jobs:
  - {name: a, command: x, isolation: pid_namespace}
  - {name: b, command: x, isolation: none}
  - {name: c, command: x, isolation: container}
execution_config: {mode: slurm, isolation: pid_namespace}
""",
        """\
3:38: jobs[0].isolation: 'isolation: pid_namespace' needs mode: direct, but execution_config.mode is slurm; remove it or write mode: direct
5:38: jobs[2].isolation: expected 'none' or 'pid_namespace', got the text 'container'
6:44: execution_config.isolation: 'isolation' needs mode: direct, but the mode is slurm; remove it or write mode: direct
""",
    ),
    "a sweep repeats no error": (
        """\
name: w
jobs:
  - name: 'a_{i}'
    command: 'x ${files.input.f_{i}}'
    depends_on: ['b_{i}']
    resource_requirements: 'r_{i}'
    parameters: {i: 1:1000}
""",
        """\
4:14: jobs[0].command: '${files.input.f_1}': no file named 'f_1'
5:18: jobs[0].depends_on[0]: no job named 'b_1'; did you mean 'a_1'?
6:28: jobs[0].resource_requirements: no resource_requirements entry named 'r_1'
""",
    ),
    "no false errors after a failed expansion": (
        """\
name: w
jobs:
  - {name: 'a_{i}', command: x, parameters: {i: 1:2:0}}
  - {name: b, command: x, depends_on: [a_1], depends_on_regexes: [a_]}
""",
        """\
3:49: jobs[0].parameters.i: the step of the range '1:2:0' is zero
""",
    ),
}


@pytest.mark.parametrize(("text", "lines"), CASES.values(), ids=CASES.keys())
def test_all_mistakes_with_their_places(text: str, lines: str) -> None:
    with pytest.raises(SpecError) as caught:
        load("-", user="u", stdin=io.BytesIO(text.encode()))
    assert [line.removeprefix("<stdin>:") for line in str(caught.value).splitlines()] == lines.splitlines()


def test_problem_renders_as_one_line() -> None:
    problem = Problem(
        "workflow.yaml", 12, 18, "jobs[2].depends_on[0]", "no job named 'a'", "did you mean 'b'?"
    )
    assert (
        problem.render() == "workflow.yaml:12:18: jobs[2].depends_on[0]: no job named 'a'; did you mean 'b'?"
    )
    assert Problem("w", 0, 0, "", "is empty").render() == "w: is empty"


def test_problems_are_sorted_by_place() -> None:
    late, early = (Problem("w", line, 1, "", "x") for line in (9, 2))
    assert SpecError([late, early]).problems == (early, late)
    assert SpecError([late]).exit_code == 2


def test_places_are_the_same_in_json() -> None:
    text = '{"name": "w",\n "jobs": [{"name": "a", "command": "x",\n  "support_termination": true}]}'
    with pytest.raises(SpecError) as caught:
        load("-", user="u", stdin=io.BytesIO(text.encode()))
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (3, 3, "jobs[0].support_termination")
    assert problem.hint == "did you mean 'supports_termination'?"
