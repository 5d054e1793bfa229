"""What an allocation is certain to have on each node."""

from __future__ import annotations

import pytest

from torc_supervise.slurm.options import AllocationOptions
from torc_supervise.slurm.room import room_of
from torc_supervise.workflow.sbatch import parse_options

G = 1 << 30


def room(line: str, what: str) -> float | None:
    found: float | None = getattr(room_of(AllocationOptions(parse_options(line))), what)
    return found


@pytest.mark.parametrize(
    ("line", "cpus"),
    [
        ("-N1", 1),
        ("-N1 -c4", 4),
        ("-N2 --ntasks-per-node=3 -c 2", 6),
        ("-N1 -n8", 8),
        ("-N2 -n8", None),
        ("-N1-4 -n8", None),
        ("-N1 --exclusive", None),
        ("-N1 --mincpus=4", None),
        ("-N1 -c4 --cpus-per-gpu=8", None),
    ],
)
def test_cpus(line: str, cpus: int | None) -> None:
    assert room(line, "cpus") == cpus


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("--mem=4G", 4 * G),
        ("--mem=4096", 4 * G),
        ("--mem=4096MB", 4 * G),
        ("--mem=0", None),
        ("--mem=lots", None),
        ("-c2 --mem-per-cpu=1g", 2 * G),
        ("--exclusive --mem-per-cpu=1g", None),
        ("-c2", None),
    ],
)
def test_memory(line: str, memory: int | None) -> None:
    assert room(line, "memory_bytes") == memory


@pytest.mark.parametrize(
    ("line", "gpus"),
    [
        ("-c1", 0),
        ("--gres=gpu", 1),
        ("--gres=gpu:2", 2),
        ("--gres=gpu:a100:2,lustre:1", 2),
        ("--gres=gpu:a100", 1),
        ("--gpus-per-node=a100:4", 4),
        ("-N1 --gpus=3", 3),
        ("-N2 --gpus=3", None),
        ("--exclusive", None),
        ("--gpus-per-task=1", None),
    ],
)
def test_gpus(line: str, gpus: int | None) -> None:
    assert room(line, "gpus") == gpus


def test_time_and_nodes() -> None:
    assert room("-t 1:00:00", "seconds") == 3600
    assert room("-t infinite", "seconds") is None
    assert room("-N 2-4", "nodes") is None
