"""``submit`` where no Slurm is needed: what it would write, and what it refuses before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.cli import Cli

SPEC = """
name: training
jobs:
  - {name: preprocess, command: "true"}
  - name: train
    command: "true"
    depends_on: [preprocess]
    supports_termination: true
    resource_requirements: {num_cpus: 2, memory: 300m}
slurm_schedulers:
  - {name: main, account: me, walltime: "04:00:00", extra: "--signal=TERM@300"}
"""
ACTION = (
    "  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler_type: slurm, scheduler: "
)


def nothing_was_written(cli: Cli) -> bool:
    return os.listdir(cli.directory) == ["w.yaml"]


def test_a_dry_run_prints_the_script_and_writes_nothing(cli: Cli) -> None:
    cli.write("w.yaml", SPEC)
    done = cli.run("submit", "w.yaml", "--dry-run", "--auto-resubmit", "3", env={"PATH": "/nowhere"})
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert f"#SBATCH --chdir={cli.directory}" in lines
    assert "#SBATCH --signal=B:TERM@300" in lines
    assert "#SBATCH --cpus-per-task=2  # as much as the largest job needs" in lines
    assert lines[-1].startswith("exec /")
    assert lines[-1].endswith("--scheduler main --warned-by B:TERM@300 --auto-resubmit 3")
    assert "workflows/1/slurm_wf1_1.sh" in done.err
    assert nothing_was_written(cli)


def test_a_dry_run_of_an_existing_workflow_asks_for_what_is_left(cli: Cli) -> None:
    cli.write("w.yaml", SPEC.replace('command: "true"\n    depends', 'command: "false"\n    depends'))
    assert cli.run("run", "w.yaml").code == 1
    assert cli.run("submit", "1", "--dry-run").out == "nothing of workflow 1 is left to run\n"
    assert cli.run("reset-status", "1", "--failed-only").code == 0
    before = sorted(path.name for path in (cli.directory / "torc_output").rglob("*"))
    document = cli.run("workflows", "submit", "1", "--dry-run", "-f", "json").json
    assert document["workflow_id"] == 1
    assert [script["scheduler"] for script in document["scripts"]] == ["main"]
    assert "\nexec /" in document["scripts"][0]["text"]
    assert sorted(path.name for path in (cli.directory / "torc_output").rglob("*")) == before


def test_without_slurm_nothing_is_written(cli: Cli) -> None:
    cli.write("w.yaml", SPEC)
    done = cli.run("submit", "w.yaml", env={"PATH": "/nowhere"})
    assert done.code == 2
    assert "Slurm's 'sbatch' was not found on PATH" in done.err
    assert nothing_was_written(cli)


TWO = SPEC + '  - {name: other, account: me, walltime: "1:00:00"}\n'


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (SPEC.partition("slurm_schedulers")[0], [], "has no slurm_schedulers with a name"),
        (TWO, [], "there are: main, other"),
        (TWO, ["--scheduler", "none"], "--scheduler none: no slurm_schedulers entry of that name"),
        (f"{SPEC}actions:\n{ACTION}main, num_allocations: 2}}\n", [], "the actions ask for 2 allocations"),
        (f"{TWO}actions:\n{ACTION}main}}\n{ACTION}other}}\n", [], "the actions ask for 2 allocations"),
        (
            f"{SPEC}actions:\n{ACTION}main, start_one_worker_per_node: true}}\n",
            [],
            "start_one_worker_per_node",
        ),
        (
            SPEC.replace("name: main, ", "name: main, ntasks_per_node: 1, "),
            [],
            "job 'train' needs 2 CPUs on a node",
        ),
        (
            SPEC.replace("memory: 300m", "memory: 300m, num_nodes: 2"),
            [],
            "job 'train' needs 2 nodes, and it has 1",
        ),
        (SPEC, ["--auto-resubmit", "-1"], "--auto-resubmit"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    cli: Cli, text: str, arguments: list[str], said: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    programs = tmp_path_factory.mktemp("bin")
    for name in ("sbatch", "squeue"):  # there, and never called
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    cli.write("w.yaml", text)
    done = cli.run(
        "submit",
        "w.yaml",
        *arguments,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert nothing_was_written(cli)


def test_serialized_allocations_make_a_chain(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        f"{SPEC.replace('name: main,', 'name: main, serialize_allocations: true,')}actions:\n"
        f"{ACTION}main, num_allocations: 2, max_parallel_jobs: 1}}\n",
    )
    scripts = cli.run("submit", "w.yaml", "--dry-run", "-f", "json").json["scripts"]
    assert [Path(script["script"]).name for script in scripts] == ["slurm_wf1_1.sh", "slurm_wf1_2.sh"]
    assert all("--max-parallel-jobs 1" in script["text"] for script in scripts)


def test_the_scheduler_can_be_chosen(cli: Cli) -> None:
    cli.write("w.yaml", TWO)
    done = cli.run("submit", "w.yaml", "--dry-run", "--scheduler", "other")
    assert "#SBATCH --time=1:00:00" in done.out


def test_ways_to_go_on_include_submitting(cli: Cli) -> None:
    cli.write("w.yaml", SPEC.replace('command: "true"\n    depends', "command: exit 1\n    depends"))
    assert cli.run("run", "w.yaml").code == 1
    said = cli.run("reset-status", "1").out
    assert "to run them: torc-supervise run 1, or torc-supervise submit 1 to queue an allocation" in said


def test_all_that_is_wrong_is_said_at_once_and_validate_says_it_too(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        """
name: wrong
jobs:
  - {name: long, command: "true", resource_requirements: {num_cpus: 1, memory: 1m, runtime: PT2H}}
  - {name: wide, command: "true", resource_requirements: {num_cpus: 9, memory: 1m}}
  - name: saves
    command: "true"
    supports_termination: true
    resource_requirements: {num_cpus: 1, memory: 1m, runtime: PT3H}
slurm_schedulers: [{name: s, account: a, ntasks_per_node: 4, nodes: 2, extra: --signal=USR1@25}]
""",
    )
    done = cli.run("submit", "w.yaml", "--dry-run")
    assert done.code == 2
    expected = [
        "job 'long' may run 2:00:00 and cannot save its work; the walltime is 1:00:00",
        "job 'wide' needs 9 CPUs on a node, and it has 4",
        "job 'saves' may run 3:00:00, the walltime is 1:00:00: it takes more than one allocation",
        "Slurm signals 25 s before the end, and the jobs need 90 s",
        "only the first of its 2 nodes is used",
    ]
    assert [text for text in expected if text not in done.err] == []
    document = cli.run("validate", "w.yaml", "-f", "json").json
    assert document["valid"] is True
    said = "\n".join(document["warnings"])
    assert [text for text in expected if text not in said] == []
    assert "submit would refuse it: allocation 's': job 'long'" in said


def test_options_of_ours_are_refused_where_they_stand(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        SPEC.replace("--signal=TERM@300", "--signal=TERM@300 -o mine.txt")
        + "slurm_defaults: {error: e.txt}\n",
    )
    done = cli.run("submit", "w.yaml")
    assert done.code == 2
    assert "w.yaml:11:" in done.err
    assert (
        "slurm_schedulers[0].extra: --output cannot be given: the batch output has a name of its own"
        in done.err
    )
    assert "slurm_defaults.error: 'error' cannot be given" in done.err


def test_a_job_waits_for_the_allocation_that_it_is_bound_to(cli: Cli) -> None:
    cli.write(
        "w.yaml",
        """
name: bound
jobs:
  - {name: anywhere, command: "true"}
  - {name: here, command: "true", scheduler: small}
  - {name: elsewhere, command: "true", scheduler: large, resource_requirements: {num_cpus: 9999, memory: 1m}}
slurm_schedulers: [{name: small, account: a}, {name: large, account: a, extra: --exclusive}]
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler_type: slurm, scheduler: small}
  - trigger_type: on_jobs_ready
    jobs: [elsewhere]
    action_type: schedule_nodes
    scheduler_type: slurm
    scheduler: large
""",
    )
    assert cli.run("submit", "w.yaml", "--dry-run").code == 0, "what is too large for one fits the other"
    done = cli.run("run", "w.yaml", "--scheduler", "small", "-f", "json")
    assert done.code == 75
    assert (done.json["jobs_by_status"]["completed"], done.json["jobs_by_status"]["ready"]) == (2, 1)
    assert cli.run("run", "1", "--scheduler", "large", "--max-parallel-jobs", "1").code == 0
