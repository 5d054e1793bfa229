"""What srun is asked for, and what it must not learn from its surroundings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from support.replaying import Requirements, job
from torc_supervise.capacity import Node
from torc_supervise.slurm.nodes import parse
from torc_supervise.slurm.steps import StepSetup, is_layout, leader_command

SETUP = StepSetup("/usr/bin/srun", "/usr/bin/python3", "/home/me")


def options(setup: StepSetup = SETUP, *, limited: bool = True, **amounts: Any) -> list[str]:
    nodes = tuple(f"n{number}" for number in range(1, amounts.get("num_nodes", 1) + 1))
    argv = setup.srun_command(
        job(1, requirements=Requirements(**amounts)), "wf1_j1_r1_a1", nodes, 1 << 30, 30.0, limited=limited
    )
    assert argv[0] == "/usr/bin/srun"
    return argv[1 : argv.index("/usr/bin/python3")]


def test_a_step_asks_for_exactly_what_the_job_asks_for() -> None:
    asked = options(num_cpus=3, num_nodes=2, num_gpus=1, runtime_seconds=3600.0)
    assert {
        *(
            "--exact",
            "--nodes=2",
            "--nodelist=n[1-2]",
            "--ntasks=2",
            "--ntasks-per-node=1",
            "--cpus-per-task=3",
        ),
        *("--mem=1048576K", "--gres=gpu:1", "--job-name=wf1_j1_r1_a1", "--chdir=/home/me", "--cpu-bind=none"),
        "--time=63",
    } <= set(asked)


def test_what_is_not_asked_for_is_said_or_left_out_as_slurm_needs_it() -> None:
    assert not [option for option in options() if option.startswith(("--gres", "--time"))]
    assert "--gres=none" in options(replace(SETUP, has_gpus=True))
    assert not [
        option for option in options(replace(SETUP, counts_memory=False)) if option.startswith("--mem")
    ]
    assert "--cpu-bind=cores" in options(replace(SETUP, cpu_bind=True))
    assert not [o for o in options(limited=False, runtime_seconds=60.0) if o.startswith("--time")]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *[(name, True) for name in ("SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_NTASKS_PER_NODE")],
        *[
            (name, True)
            for name in ("SLURM_CPU_BIND", "SLURM_EXPORT_ENV", "SLURM_NNODES", "CUDA_VISIBLE_DEVICES")
        ],
        *[
            (name, False)
            for name in ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_SUBMIT_DIR", "SLURM_CLUSTER_NAME", "PATH")
        ],
    ],
)
def test_the_options_of_the_batch_job_are_not_those_of_a_step(name: str, layout: bool) -> None:
    assert is_layout(name) is layout


def test_the_command_line_of_a_leader_holds_no_value_of_the_environment() -> None:
    """It can be read by anybody on the host."""
    base = {"PATH": "/bin", "SLURM_CPUS_PER_TASK": "4", "SAME": "1"}
    environment = {**base, "TOKEN": "secret", "TORC_JOB_ID": "1"}
    argv = leader_command("/usr/bin/python3", ["srun"], {"command": "x"}, base, environment, None)
    order = json.loads(argv[-1])
    assert "secret" not in argv[-1]
    assert sorted(order["own"]) == ["TOKEN", "TORC_JOB_ID"]
    assert {"TOKEN", "TORC_JOB_ID", "SLURM_CPUS_PER_TASK"} <= set(order["not_for_srun"])
    assert not {"PATH", "SAME"} & set(order["not_for_srun"])


def test_what_scontrol_says_of_the_nodes_of_a_job() -> None:
    text = (
        "JobId=2 Name=x NodeList=n[1-4] JOB_GRES=gpu:5 Nodes=n[1-2] CPU_IDs=0-3 Mem=4000 GRES=gpu:a100:2(IDX:0-1) "
        "Nodes=n3 CPU_IDs=0,2-3 Mem=1000 GRES= MinCPUsNode=1 Nodes=n4 CPU_IDs=7 Mem=0 GRES=gpu:1(IDX:0),fpga:1"
    )
    assert list(parse(text)) == [
        Node("n1", 4, 4000 << 20, 2),
        Node("n2", 4, 4000 << 20, 2),
        Node("n3", 3, 1000 << 20, 0),
        Node("n4", 1, 0, 1),
    ]
    assert list(parse("slurm_load_jobs error")) == []
