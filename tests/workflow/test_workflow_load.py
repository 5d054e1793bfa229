# ruff: noqa: E501
"""A whole file to the model: defaults, every field, warnings, the journal's round trip."""

from __future__ import annotations

import gc
import io

import pytest

from torc_supervise.store.jsontext import dumps, loads
from torc_supervise.workflow import Loaded, load
from torc_supervise.workflow.inert import NOT_ACTED_ON
from torc_supervise.workflow.model import ExecutionConfig, Requirements, ResourceMonitor, Workflow

GUIDE = """\
name: ml_training_workflow
user: researcher
jobs:
  - name: preprocess
    command: python preprocess.py
    supports_termination: false
  - name: train_model
    command: python train.py --checkpoint-dir /scratch/checkpoints
    supports_termination: true
    depends_on: [preprocess]
    resource_requirements: {num_cpus: 8, memory: 32g, num_gpus: 1, runtime: PT4H}
  - name: evaluate
    command: python evaluate.py
    supports_termination: true
    depends_on: [train_model]
slurm_schedulers:
  - name: gpu_scheduler
    account: my_project
    partition: gpu
    nodes: 1
    walltime: "04:00:00"
    extra: "--signal=B:TERM@300"
actions:
  - trigger_type: on_workflow_start
    action_type: schedule_nodes
    scheduler: gpu_scheduler
    scheduler_type: slurm
    num_allocations: 1
"""

EVERYTHING = """\
name: all
user: someone
description: |
  two
  lines
project: p
metadata: {a: [1, null], b: 1.5}
parameters: {n: 1:2}
env: {A: "1", B: b, OMP_NUM_THREADS: 4, V: 1.10}
files: [{name: f, path: f.csv}, {name: 'g{n}', path: 'g/{n}', use_parameters: [n]}]
user_data: [{name: u, data: {x: [1, 2.5, "é", true, null]}, is_ephemeral: true}, {name: empty}]
resource_requirements: [{name: big, num_cpus: 2, memory: 4g, num_gpus: 1, num_nodes: 2, runtime: PT1H30M}]
failure_handlers: [{name: h, rules: [{exit_codes: [1, 137], recovery_script: fix, max_retries: 2}, {match_all_exit_codes: true}]}]
slurm_schedulers:
  - {name: s, account: a, nodes: 2, walltime: 1-00:00:00, partition: p, qos: q, mem: 10G, gres: gpu:1, tmp: 1G, ntasks_per_node: 1, serialize_allocations: true, extra: --signal=TERM@60}
slurm_defaults: {constraint: cpu, exclusive: true, nice: 5, signal: B:USR1@60}
actions:
  - {trigger_type: on_jobs_ready, action_type: run_commands, jobs: [a], job_name_regexes: [^b], commands: [echo], persistent: true}
  - {trigger_type: on_worker_start, action_type: schedule_nodes, scheduler: s, scheduler_type: slurm, num_allocations: 2, start_one_worker_per_node: true, max_parallel_jobs: 4}
resource_monitor: {enabled: false, granularity: time_series, sample_interval_seconds: 2, generate_plots: true, flush_interval_seconds: 9, jobs: {enabled: true, granularity: summary}, compute_node: {enabled: true, granularity: summary, cpu: true, memory: true}}
execution_config:
  mode: direct
  limit_resources: false
  termination_signal: usr1
  sigterm_lead_seconds: 12.5
  sigkill_headroom_seconds: 0
  timeout_exit_code: 1
  oom_exit_code: 2
  enable_cpu_bind: false
  srun_mpi: pmi2
  staggered_start: false
  stdio: {mode: combined, delete_on_success: true}
jobs_sort_method: none
use_pending_failed: true
compute_node_expiration_buffer_seconds: 1
compute_node_wait_for_new_jobs_seconds: 2
compute_node_ignore_workflow_completion: true
compute_node_wait_for_healthy_database_minutes: 3
compute_node_min_time_for_new_jobs_seconds: 4
jobs:
  - name: a
    command: run
    invocation_script: wrap
    cancel_on_blocking_job_failure: false
    supports_termination: true
    termination_signal: 10
    sigterm_lead_seconds: 300
    signal_scope: leader
    isolation: pid_namespace
    checkpoint: state.pt
    resource_requirements: big
    failure_handler: h
    scheduler: s
    priority: 5
    env: {B: mine}
    stdio: none
    output_files: [f]
  - {name: b, command: y, stdio: {mode: no_stderr, delete_on_success: false}, resource_requirements: default, input_files: [f]}
"""


def from_text(text: str) -> Loaded:
    return load("-", user="me", stdin=io.BytesIO(text.encode()))


def test_the_guides_example_loads() -> None:
    loaded = from_text(GUIDE)
    train = loaded.workflow.jobs[1]
    assert train.requirements == Requirements("inline", 8, 32 << 30, 1, 1, 4 * 3600.0, memory_stated=True)
    assert train.supports_termination
    assert [job.depends_on for job in loaded.workflow.jobs] == [(), (1,), (2,)]
    assert loaded.workflow.jobs[0].requirements == Requirements()
    assert loaded.workflow.user == "me"  # as Torc: who runs it counts, not what the file says
    assert loaded.warnings == ()


def test_every_field_arrives() -> None:
    loaded = from_text(EVERYTHING)
    workflow = loaded.workflow
    first, second = workflow.jobs
    assert (workflow.description, workflow.project, workflow.jobs_sort_method) == (
        "two\nlines\n",
        "p",
        "none",
    )
    assert workflow.files == {"f": "f.csv", "g1": "g/1", "g2": "g/2"}
    assert workflow.user_data == {"u": {"x": [1, 2.5, "é", True, None]}, "empty": None}
    assert first.env == {"A": "1", "B": "mine", "OMP_NUM_THREADS": "4", "V": "1.10"}
    assert (first.invocation_script, first.priority, first.checkpoint) == ("wrap", 5, "state.pt")
    assert (first.termination_signal, first.sigterm_lead_seconds, first.signal_scope) == (
        "SIGUSR1",
        300.0,
        "leader",
    )
    assert (first.failure_handler, first.scheduler, first.stdio) == ("h", "s", "none")
    assert [workflow.isolates(each) for each in (first, second)] == [True, False]
    assert not first.cancel_on_blocking_job_failure
    assert first.requirements == Requirements("big", 2, 4 << 30, 1, 2, 5400.0, memory_stated=True)
    assert second.requirements == Requirements()
    assert (second.stdio, second.delete_stdio_on_success, second.depends_on) == ("no_stderr", False, (1,))
    assert workflow.execution == ExecutionConfig(
        limit_resources=False,
        termination_signal="SIGUSR1",
        sigterm_lead_seconds=12.5,
        sigterm_lead_stated=True,
        sigkill_headroom_seconds=0.0,
        timeout_exit_code=1,
        oom_exit_code=2,
        stdio="combined",
        delete_stdio_on_success=True,
        slurm={"enable_cpu_bind": False, "srun_mpi": "pmi2", "staggered_start": False},
    )
    assert workflow.resource_monitor == ResourceMonitor(True, "summary", 2.0)
    assert workflow.extra["metadata"] == {"a": [1, None], "b": 1.5}
    assert workflow.extra["slurm_schedulers"][0]["walltime"] == "1-00:00:00"
    assert workflow.extra["compute_node_wait_for_new_jobs_seconds"] == 2
    assert (loaded.counts.jobs, loaded.counts.files, loaded.counts.user_data) == (2, 2, 2)


def test_one_warning_names_all_that_is_not_acted_on() -> None:
    (warning,) = [one for one in from_text(EVERYTHING).warnings if not one.path]
    named = warning.message.removeprefix("not acted on yet: ").split(", ")
    unused = {"execution_config.mode: slurm", "execution_config.srun_termination_signal"}
    unused |= {"resource_monitor.jobs.granularity: time_series"}
    assert set(named) == set(NOT_ACTED_ON.values()) - unused


def test_what_is_acted_on_is_not_warned_about() -> None:
    text = "name: w\njobs: [{name: a, command: x, stdio: none}]\nexecution_config: {mode: auto, stdio: {mode: none}}\n"
    assert from_text(text + "resource_monitor: {enabled: true, granularity: summary}\n").warnings == ()


def test_other_warnings_keep_their_places() -> None:
    text = "name: w\njobs: [{name: a, command: x, input_files: [a, b]}]\nfiles: [{name: a, path: p}, {name: b, path: p}]\nuser_data: [{data: 1}]\n"
    assert [warning.render() for warning in from_text(text).warnings] == [
        "<stdin>:3:45: files[1].path: the files 'a' and 'b' have the same path 'p'",
        "<stdin>:4:13: user_data[0]: has no name, so nothing can use it",
    ]


def test_what_is_in_vain_gets_one_warning_each() -> None:
    text = """\
name: w
files: [{name: in, path: i}, {name: idle, path: d}, {name: 'no_{i}', path: 'n{i}', parameters: {i: 1:9}}, {name: 'some_{i}', path: 's{i}', parameters: {i: 1:9}}]
user_data: [{name: used}, {name: forgotten}]
resource_requirements: [{name: big, num_cpus: 1, memory: 1g}, {name: r1, num_cpus: 1, memory: 1g}, {name: r2, num_cpus: 1, memory: 1g}, {name: small, num_cpus: 1, memory: 1g}]
jobs:
  - {name: 'a{i}', command: 'x ${files.input.in}', parameters: {i: 1:2}, resource_requirements: 'r{i}', sigterm_lead_seconds: 5, termination_signal: INT}
  - {name: b, command: x, supports_termination: false, checkpoint: c, output_file_regexes: ['^some_3$'], input_user_data: [used]}
  - {name: c, command: x, supports_termination: true, checkpoint: c, sigterm_lead_seconds: 5, termination_signal: INT, resource_requirements: big}
"""
    assert [f"{one.path}: {one.message}" for one in from_text(text).warnings] == [
        "files[1].name: no job uses the file 'idle'",
        "files[2].name: no job uses the file 'no_{i}'",
        "user_data[1].name: no job uses the user_data 'forgotten'",
        "resource_requirements[3].name: no job uses the requirements 'small'",
        "jobs[0].sigterm_lead_seconds: has no effect without supports_termination: true",
        "jobs[0].termination_signal: has no effect without supports_termination: true",
        "jobs[1].checkpoint: has no effect without supports_termination: true",
    ]


@pytest.mark.parametrize("text", [GUIDE, EVERYTHING, "name: w\njobs: []\n"])
def test_round_trip_through_the_journal(text: str) -> None:
    workflow = from_text(text).workflow
    assert Workflow.from_dict(loads(dumps(workflow.to_dict()))) == workflow


def test_null_is_accepted_for_every_optional_field() -> None:
    from torc_supervise.workflow.records import entries
    from torc_supervise.workflow.spec import JobSpec, WorkflowSpec

    top = [name for name, known in entries(WorkflowSpec).items() if not known.required]
    job = [name for name, known in entries(JobSpec).items() if not known.required]
    text = "name: w\n" + "".join(f"{name}: null\n" for name in top)
    text += "jobs:\n  - {name: a, command: x, " + ", ".join(f"{name}: ~" for name in job) + "}\n"
    loaded = from_text(text)
    assert loaded.workflow == from_text("name: w\njobs: [{name: a, command: x}]").workflow
    assert loaded.warnings == ()


def test_a_sweep_shares_what_its_jobs_have_in_common() -> None:
    text = "name: w\nenv: {A: a}\njobs:\n  - {name: 'a{i}', command: x, parameters: {i: 1:2}, resource_requirements: {num_cpus: 1, memory: 1g}}\n"
    first, second = from_text(text).workflow.jobs
    assert first.env is second.env
    assert first.requirements is second.requirements


def test_the_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    from_text(GUIDE)
    assert gc.isenabled()


def test_the_package_imports_nothing_else_of_ours() -> None:
    from pathlib import Path

    import torc_supervise.workflow

    package = Path(torc_supervise.workflow.__file__).parent
    allowed = ("torc_supervise.errors", "torc_supervise.workflow")
    for path in sorted(package.glob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("torc_supervise"):
                assert words[1].startswith(allowed), f"{path.name}: {line}"
