"""Whether jobs are processes here or job steps, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from support.supervised import job, workflow_of
from torc_supervise.errors import TorcError
from torc_supervise.machine.limits import execution_of_steps
from torc_supervise.operations.isolation import check_isolation
from torc_supervise.operations.steps import mode_of, refuse_workers_per_node
from torc_supervise.slurm.variables import Allocation
from torc_supervise.workflow.model import ExecutionConfig

HERE = Allocation("7", ("n1", "n2"))


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return []


@pytest.mark.parametrize(
    ("mode", "allocation", "found"),
    [
        ("direct", None, "direct"),
        ("direct", HERE, "direct"),
        ("auto", None, "direct"),
        ("auto", HERE, "slurm"),
        ("slurm", HERE, "slurm"),
    ],
)
def test_auto_is_slurm_in_an_allocation(
    said: list[str], mode: str, allocation: Allocation | None, found: str
) -> None:
    assert mode_of(ExecutionConfig(mode=mode), allocation, said.append) == found


def test_steps_need_an_allocation_and_srun(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TorcError, match=r"this is no Slurm allocation"):
        mode_of(ExecutionConfig(mode="slurm"), None, said.append)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TorcError, match=r"'srun' was not found"):
        mode_of(ExecutionConfig(mode="slurm"), HERE, said.append)
    assert mode_of(ExecutionConfig(mode="auto"), HERE, said.append) == "direct"
    assert "no srun on PATH" in said[0]


def test_one_worker_per_node_is_refused_where_there_are_several_nodes() -> None:
    workflow = replace(
        workflow_of(job("j", "true")), extra={"actions": [{"start_one_worker_per_node": True}]}
    )
    refuse_workers_per_node(workflow, None)
    refuse_workers_per_node(workflow, Allocation("7", ("n1",)))
    refuse_workers_per_node(workflow_of(job("j", "true")), HERE)
    with pytest.raises(TorcError, match=r"start_one_worker_per_node on 2 nodes"):
        refuse_workers_per_node(workflow, HERE)


def test_job_steps_have_no_pid_namespace() -> None:
    plain, isolated = job("plain", "true"), job("isolated", "true", isolation="pid_namespace")
    check_isolation(workflow_of(plain), [plain], as_steps=True)
    check_isolation(workflow_of(plain, isolated), [plain], as_steps=True)
    with pytest.raises(
        TorcError, match=r"'isolated' has isolation: pid_namespace, and jobs are Slurm's job steps"
    ):
        check_isolation(workflow_of(plain, isolated), [plain, isolated], as_steps=True)


def test_the_signal_of_steps_is_ours_to_send() -> None:
    assert execution_of_steps(ExecutionConfig()) == ExecutionConfig()
    steps = execution_of_steps(ExecutionConfig(slurm={"srun_termination_signal": "USR1@120"}))
    assert (steps.termination_signal, steps.sigterm_lead_seconds, steps.sigterm_lead_stated) == (
        "SIGUSR1",
        120.0,
        True,
    )
    assert execution_of_steps(steps) == steps
