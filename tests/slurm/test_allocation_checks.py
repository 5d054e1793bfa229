"""What is known of an allocation before it is queued."""

from __future__ import annotations

from typing import Any

import pytest

from torc_supervise.errors import TorcError
from torc_supervise.operations.allocation_checks import Asked, check_allocations, check_partitions, refuse
from torc_supervise.slurm.commands import SlurmUnreachable
from torc_supervise.slurm.options import allocation_options
from torc_supervise.slurm.partitions import Partition
from torc_supervise.workflow.model import ExecutionConfig, Job, Requirements, Workflow
from torc_supervise.workflow.schedulers import SlurmScheduler


def asked(workflow: Workflow, *, name: str = "s", counts_jobs: bool = False, **fields: Any) -> Asked:
    scheduler = SlurmScheduler(name, "a", **fields)
    return Asked(
        scheduler, allocation_options(workflow, scheduler, workflow.jobs), workflow.jobs, counts_jobs
    )


def workflow(*needs: Requirements, saves: bool = True, **execution: Any) -> Workflow:
    jobs = tuple(
        Job(n, f"j{n}", "true", requirements=need, supports_termination=saves)
        for n, need in enumerate(needs or (Requirements(),), 1)
    )
    return Workflow("w", jobs, execution=ExecutionConfig(**execution))


def messages(workflow: Workflow, *now: Asked, later: tuple[Asked, ...] = ()) -> list[str]:
    return [
        f"{'error' if finding.is_error else 'warning'}: {finding.message}"
        for finding in check_allocations(workflow, now, later)
    ]


@pytest.mark.parametrize(
    ("seconds", "walltime", "needed"),
    [(90, "1:00:00", None), (89, "1:00:00", 90), (25, "1", 40), (60, "infinite", None)],
)
def test_a_signal_that_comes_too_late(seconds: int, walltime: str, needed: int | None) -> None:
    given = workflow()
    found = messages(given, asked(given, walltime=walltime, extra=f"--signal=TERM@{seconds}"))
    found = [message for message in found if "too short" not in message]
    assert len(found) == (needed is not None)
    if needed is not None:
        assert f"Slurm signals {seconds} s before the end, and the jobs need {needed} s" in found[0]


@pytest.mark.parametrize(("walltime", "too_short"), [("1", True), ("2:15", False), ("infinite", False)])
def test_a_walltime_too_short_for_headroom_and_grace(walltime: str, too_short: bool) -> None:
    given = workflow()
    said = "warning: allocation 's': 60 s in all are too short for a headroom of 60 s and a grace of 30 s: shortened"
    assert [message[: len(said)] for message in messages(given, asked(given, walltime=walltime))] == [
        said
    ] * too_short


def test_jobs_that_cannot_save_need_the_headroom_alone() -> None:
    given = workflow(saves=False)
    assert messages(given, asked(given, extra="--signal=TERM@60")) == []


def test_a_job_that_fits_another_allocation_is_no_mistake() -> None:
    given = workflow(Requirements(num_cpus=8))
    small, large = asked(given, extra="-c 4"), asked(given, name="large", extra="-c 8")
    assert "job 'j1' needs 8 CPUs on a node, and it has 4" in messages(given, small)[0]
    assert messages(given, small, large) == []
    assert messages(given, small, later=(large,)) == []


def test_amounts_do_not_matter_where_jobs_are_counted() -> None:
    given = workflow(Requirements(num_cpus=8, num_gpus=2, memory_bytes=1 << 40, memory_stated=True))
    assert messages(given, asked(given, extra="-c 4 --mem=1G --gres=gpu:1", counts_jobs=True)) == []
    found = messages(given, asked(given, extra="-c 8 --mem=1G --gres=gpu:2"))
    assert found == [
        "error: allocation 's': job 'j1' needs 1024.0 GiB of memory on a node, and it has 1.0 GiB"
    ]


def test_many_jobs_make_a_short_message() -> None:
    given = workflow(*[Requirements(num_cpus=8)] * 30)
    found = messages(given, asked(given, extra="-c 4"))
    assert len(found) == 11
    assert found[-1] == "error: allocation 's': and 20 more jobs like that"


# -- what sinfo says ----------------------------------------------------------------------------------------------

KNOWN = {
    "short": Partition("short", 1800.0, True),
    "long": Partition("long", 86400.0, False),
    "free": Partition("free", None, False),
}


@pytest.mark.parametrize(
    ("fields", "said", "is_error"),
    [
        ({"partition": "long"}, None, False),
        ({"partition": "free", "walltime": "9-0"}, None, False),
        ({"partition": "short,long"}, None, False),
        ({"walltime": "10"}, None, False),
        ({}, "partition 'short' allows 0:30:00, the walltime is 1:00:00", False),
        ({"partition": "none"}, "Slurm knows no partition 'none'; there are: free, long, short", True),
        ({"partition": "none,long"}, "Slurm knows no partition 'none'", False),
        ({"partition": "none", "extra": "-M elsewhere"}, None, False),
    ],
)
def test_partitions(fields: dict[str, Any], said: str | None, is_error: bool) -> None:
    given = workflow()
    found = check_partitions([asked(given, **fields)], lambda: KNOWN)
    assert [finding.is_error for finding in found] == ([is_error] if said else [])
    assert said is None or said in found[0].message


def test_a_sinfo_that_does_not_answer_is_passed_over() -> None:
    def look() -> dict[str, Partition]:
        raise SlurmUnreachable("no answer")

    assert check_partitions([asked(workflow(), partition="none")], look) == []


def test_all_errors_are_in_one_message() -> None:
    given = workflow(Requirements(num_cpus=8), Requirements(num_gpus=1))
    with pytest.raises(TorcError) as caught:
        refuse(check_allocations(given, [asked(given, extra="-c 4 --gres=gpu:0")]))
    assert "needs 8 CPUs" in caught.value.message
    assert "needs 1 GPUs" in caught.value.message
