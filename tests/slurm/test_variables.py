"""What an allocation is, from Slurm's variables: any of them missing is normal, garbage is no traceback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.slurm.variables import Allocation, allocation

GIB = 1 << 30

# As sbatch --nodes=3 --mem=2000 on three unequal nodes leaves them.
THREE_NODES = {
    "SLURM_JOB_ID": "42",
    "SLURM_JOB_NODELIST": "n[1-3]",
    "SLURM_JOB_CPUS_PER_NODE": "4(x2),8",
    "SLURM_MEM_PER_NODE": "2048",
    "SLURM_JOB_PARTITION": "normal",
    "SLURM_SUBMIT_HOST": "login1",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_JOB_END_TIME": "1790000000",
    "SLURMD_NODENAME": "n3",
}


def made(**variables: str) -> Allocation:
    found = allocation({"SLURM_JOB_ID": "7", **variables})
    assert found is not None
    return found


def test_a_whole_allocation() -> None:
    assert allocation(THREE_NODES) == Allocation(
        job_id="42",
        nodes=("n1", "n2", "n3"),
        here=2,
        cpus=(4, 4, 8),
        memory_bytes=(2 * GIB,) * 3,
        end_epoch=1790000000.0,
        partition="normal",
        submit_host="login1",
        restart_count=2,
        on_node=True,
    )


def test_what_this_node_has() -> None:
    found = allocation(THREE_NODES)
    assert found is not None
    assert (found.cpus_here, found.memory_here) == (8, 2 * GIB)


@pytest.mark.parametrize("missing", sorted(set(THREE_NODES) - {"SLURM_JOB_ID"}))
def test_any_of_them_may_be_missing(missing: str) -> None:
    found = allocation({name: value for name, value in THREE_NODES.items() if name != missing})
    assert found is not None
    assert found.job_id == "42"


@pytest.mark.parametrize("job_id", [None, "", "0", "seven", "-1", "7_2", "٤٢", " "])
def test_without_a_job_id_there_is_no_allocation(job_id: str | None) -> None:
    assert allocation({} if job_id is None else {"SLURM_JOB_ID": job_id}) is None


def test_the_job_id_alone_is_an_allocation() -> None:
    assert made() == Allocation("7")
    assert (made().cpus_here, made().memory_here) == (None, None)


def test_the_names_of_older_versions() -> None:
    found = allocation({"SLURM_JOBID": "8", "SLURM_NODELIST": "a,b"})
    assert found is not None
    assert (found.job_id, found.nodes) == ("8", ("a", "b"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_JOB_CPUS_PER_NODE": "2,3"}, (2 * GIB, 3 * GIB)),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "2"}, (2 * GIB,)),
        ({"SLURM_MEM_PER_NODE": "3G"}, (3 * GIB,)),
        ({"SLURM_MEM_PER_NODE": "1024K"}, (1 << 20,)),
        ({"SLURM_MEM_PER_NODE": "0"}, ()),  # --mem=0: all that the node has
        ({"SLURM_MEM_PER_CPU": "1024"}, ()),  # of how many?
        ({"SLURM_MEM_PER_NODE": "lots"}, ()),
    ],
)
def test_memory(variables: dict[str, str], expected: tuple[int, ...]) -> None:
    assert made(**variables).memory_bytes == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_GPUS": "0,2-3"}, ("0", "2", "3")),
        ({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "1"}, ("1",)),
        ({"SLURM_GPUS_ON_NODE": "2"}, ("0", "1")),
        ({"SLURM_GPUS_ON_NODE": "0"}, ()),
        ({"SLURM_JOB_GPUS": "(null)"}, None),
    ],
)
def test_gpus(variables: dict[str, str], expected: tuple[str, ...] | None) -> None:
    assert made(**variables).gpus == expected


NAMES = [*THREE_NODES, "SLURM_MEM_PER_CPU", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"]
NAMES += ["SLURM_CPUS_ON_NODE", "SLURM_JOB_NUM_NODES", "SLURM_JOBID", "SLURM_NODELIST"]
PIECES = st.sampled_from(
    [*"0123456789", "n", "[", "]", "(x", ")", ",", "-", "99999", "x", " ", "\x00", "é", "²"]
)
GARBAGE = st.lists(PIECES, max_size=12).map("".join)


@given(st.dictionaries(st.sampled_from(NAMES), GARBAGE))
def test_garbage_is_no_traceback_and_no_flood(environ: dict[str, str]) -> None:
    found = allocation(environ)
    if found is not None:
        assert len(found.nodes) <= 100_000
        assert len(found.cpus) <= 100_000
        assert all(amount >= 0 for amount in (*found.cpus, *found.memory_bytes))
        assert found.here == 0 or found.here < len(found.nodes)


@pytest.mark.parametrize("text", ["4(x999999)", "4(x0)", "4(x2", "4;8", "-4"])
def test_cpus_that_no_cluster_has(text: str) -> None:
    assert made(SLURM_JOB_CPUS_PER_NODE=text).cpus == ()
