"""What an allocation is asked for: who wins, what follows from the jobs, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from torc_supervise.slurm.options import AllocationOptions, allocation_options, to_the_supervisor
from torc_supervise.workflow.model import Job, Requirements, Workflow
from torc_supervise.workflow.schedulers import runs_in, schedule_actions, slurm_schedulers

BIG = Requirements("r", 4, 2 << 30, 1, memory_stated=True)


def workflow(scheduler: dict[str, Any], *jobs: Job, defaults: dict[str, Any] | None = None) -> Workflow:
    extra: dict[str, Any] = {"slurm_schedulers": [{"name": "s", "account": "a", **scheduler}]}
    if defaults is not None:
        extra["slurm_defaults"] = defaults
    return Workflow("w", jobs or (Job(1, "j", "true"),), extra=extra)


def options(given: Workflow) -> AllocationOptions:
    return allocation_options(given, slurm_schedulers(given)["s"], given.jobs)


def lines(given: Workflow) -> list[str]:
    return [option.word for option in options(given).options]


def test_fields_stand_in_a_fixed_order_and_defaults_in_the_files() -> None:
    fields = {"tmp": "1G", "gres": "gpu:2", "mem": "10G", "qos": "q", "partition": "p", "ntasks_per_node": 2}
    given = workflow(
        {**fields, "nodes": 3, "walltime": 30, "extra": "-x bad --hold"},
        defaults={"mail-type": "END", "requeue": True, "nice": 5.0, "contiguous": False, "priority": 1.5},
    )
    assert lines(given) == [
        *("--account=a", "--partition=p", "--qos=q", "--time=30", "--nodes=3", "--ntasks-per-node=2"),
        *("--mem=10G", "--gres=gpu:2", "--tmp=1G"),
        *("--mail-type=END", "--requeue", "--nice=5", "--priority=1.5"),
        *("--exclude=bad", "--hold"),
    ]


def test_extra_wins_over_fields_and_fields_over_defaults() -> None:
    given = workflow(
        {"qos": "field", "extra": "-t 2:00:00 --constraint=extra"},
        defaults={"qos": "default", "constraint": "default", "account": "default"},
    )
    said = options(given)
    assert [said.value(name) for name in ("time", "qos", "constraint", "account")] == [
        "2:00:00",
        "field",
        "extra",
        "a",
    ]


def test_memory_is_asked_for_in_one_way_only() -> None:
    given = workflow({"mem": "4G"}, defaults={"mem-per-cpu": "1G"})
    assert options(given).value("mem") == "4G"
    assert not options(given).states("mem-per-cpu")


def test_as_much_as_the_largest_job_needs_is_asked_for_where_nobody_says() -> None:
    small = Job(1, "small", "true")
    given = workflow({}, small, Job(2, "big", "true", requirements=BIG))
    said = options(given)
    assert said.implied == {"cpus-per-task", "mem", "gres"}
    assert [said.value(name) for name in ("cpus-per-task", "mem", "gres")] == ["4", "2304M", "gpu:1"]
    assert not options(workflow({}, small)).states("mem"), "nothing is stated, nothing is asked for"


def test_on_several_nodes_each_gets_as_much() -> None:
    said = options(workflow({"nodes": 2}, Job(1, "big", "true", requirements=BIG)))
    assert (said.value("ntasks-per-node"), said.value("cpus-per-task")) == ("1", "4")


@pytest.mark.parametrize(
    ("extra", "implied"),
    [
        ("-c 2", {"mem", "gres"}),
        ("--ntasks=8", {"mem", "gres"}),
        ("--mem-per-cpu=1G", {"cpus-per-task", "gres"}),
        ("--gpus=2", {"cpus-per-task", "mem"}),
        ("--exclusive", set()),
        ("--exclusive=user", {"cpus-per-task", "mem", "gres"}),
    ],
)
def test_nothing_is_implied_of_a_kind_that_the_file_speaks_of(extra: str, implied: set[str]) -> None:
    assert options(workflow({"extra": extra}, Job(1, "big", "true", requirements=BIG))).implied == implied


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("TERM", "B:TERM"),
        ("TERM@300", "B:TERM@300"),
        ("B:USR1@60", "B:USR1@60"),
        ("10@25", "B:10@25"),
        ("R:TERM@60", "RB:TERM@60"),
        ("br:TERM", "RB:TERM"),
    ],
)
def test_a_signal_always_goes_to_the_batch_process(spec: str, told: str) -> None:
    assert to_the_supervisor(spec) == told
    assert options(workflow({"extra": f"--signal={spec}"})).warned_by == told


def test_extras_signal_wins_over_the_defaults() -> None:
    assert (
        options(workflow({"extra": "--signal=TERM@30"}, defaults={"signal": "USR1"})).warned_by == "B:TERM@30"
    )
    assert options(workflow({}, defaults={"signal": 10})).warned_by == "B:10"
    assert options(workflow({})).warned_by is None


# -- which jobs run in which allocation ---------------------------------------------------------------------------


def test_a_job_waits_for_its_scheduler_only_if_somebody_asks_for_that() -> None:
    entries = [{"name": name, "account": "a"} for name in ("small", "large", "unused")]
    actions = [
        {"trigger_type": "on_workflow_start", "action_type": "schedule_nodes", "scheduler": "small"},
        {"trigger_type": "on_jobs_ready", "action_type": "schedule_nodes", "scheduler": "large"},
        {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["true"]},
    ]
    jobs = tuple(
        Job(n, f"j{n}", "true", scheduler=name)
        for n, name in enumerate((None, "small", "large", "unused"), 1)
    )
    given = Workflow("w", jobs, extra={"slurm_schedulers": entries, "actions": actions})

    def run(scheduler: str | None) -> list[int]:
        return [job.job_id for job in filter(runs_in(given, scheduler), jobs)]

    assert run("small") == [1, 2, 4]
    assert run("large") == [1, 3, 4]
    assert run(None) == [1, 2, 3, 4], "outside of an allocation of ours"
    assert [(action.index, action.scheduler) for action in schedule_actions(given)] == [
        (0, "small"),
        (1, "large"),
    ]
