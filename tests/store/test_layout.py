"""Where things are on disk, and who gets which number."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torc_supervise.errors import TorcError, WorkflowNotFound
from torc_supervise.store import layout, snapshot
from torc_supervise.store.layout import WorkflowFiles


def test_the_names_of_design_section_5(tmp_path: Path) -> None:
    files = WorkflowFiles("/out", 7)
    assert files.journal == "/out/workflows/7/events.jsonl"
    assert files.snapshot == "/out/workflows/7/status.json"
    assert files.stdio(3, 2, 1, "o") == "/out/job_stdio/job_wf7_j3_r2_a1.o"


def test_ids_count_from_1_and_are_taken_atomically(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda _: layout.claim_new(str(tmp_path)).workflow_id, range(64)))
    assert sorted(taken) == list(range(1, 65))


def test_an_id_is_not_given_again_while_a_later_one_exists(tmp_path: Path) -> None:
    first = layout.claim_new(str(tmp_path))
    layout.claim_new(str(tmp_path))
    os.rmdir(first.directory)
    assert layout.claim_new(str(tmp_path)).workflow_id == 3


def test_what_is_not_a_number_is_not_a_workflow(tmp_path: Path) -> None:
    for name in ("2", "10", "007", "\u00b2", "\u0663", "-1", "x", "1.5"):
        (tmp_path / "workflows" / name).mkdir(parents=True)
    assert layout.workflow_ids(str(tmp_path)) == [2, 10]
    assert layout.claim_new(str(tmp_path)).workflow_id == 11


def test_no_directory_means_no_workflows(tmp_path: Path) -> None:
    assert layout.workflow_ids(str(tmp_path / "nowhere")) == []


def test_find_takes_the_newest_without_an_id(tmp_path: Path) -> None:
    for _ in range(3):
        Path(layout.claim_new(str(tmp_path)).journal).touch()
    assert layout.find(str(tmp_path), None).workflow_id == 3
    assert layout.find(str(tmp_path), 2).workflow_id == 2


def test_an_unknown_workflow_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(WorkflowNotFound, match="no workflow in"):
        layout.find(str(tmp_path), None)
    Path(layout.claim_new(str(tmp_path)).journal).touch()
    with pytest.raises(WorkflowNotFound, match="there are: 1"):
        layout.find(str(tmp_path), 9)


def test_an_output_directory_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TorcError, match="cannot write to the output directory"):
        layout.claim_new(str(tmp_path / "file" / "below"))


# -- status.json --------------------------------------------------------------------------------------------------


def test_the_snapshot_is_replaced_whole(tmp_path: Path) -> None:
    files = layout.claim_new(str(tmp_path))
    snapshot.replace(files, [b"old"])
    with open(files.snapshot, "rb") as reader:
        snapshot.replace(files, [b"a new and longer one"])
        assert reader.read() == b"old", "whoever reads goes on reading the old one"
    assert Path(files.snapshot).read_bytes() == b"a new and longer one"
    assert sorted(os.listdir(files.directory)) == ["status.json"]


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = layout.claim_new(str(tmp_path))
    snapshot.replace(files, [b"old"])

    def full(_: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("torc_supervise.store.snapshot.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        snapshot.replace(files, [b"new"])
    assert Path(files.snapshot).read_bytes() == b"old"
