"""A request to cancel: only from our own user, only for the one it is addressed to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from torc_supervise.store import requests
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Owner
from torc_supervise.store.requests import CancelRequest

OWNER = Owner("node1", 11, 111, "boot", "2026", "run", slurm_job_id="17", nonce="abc")
REQUEST = CancelRequest("abc", None, "2026-01-31T12:00:00.000000Z", "login", ("18",))


@pytest.fixture
def files(tmp_path: Path) -> WorkflowFiles:
    files = WorkflowFiles(str(tmp_path), 1)
    os.makedirs(files.directory)
    return files


def test_a_request_is_found_until_it_is_passed_on(files: WorkflowFiles) -> None:
    requests.leave(files, REQUEST)
    assert requests.find(files, OWNER) == REQUEST
    assert requests.find(files, OWNER) == REQUEST, "who found it may be killed before it is passed on"
    requests.remove(files)
    assert requests.find(files, OWNER) is None
    requests.remove(files)
    assert os.listdir(files.directory) == []


@pytest.mark.parametrize(
    ("lock", "slurm_job_id", "meant"),
    [("abc", None, True), ("xyz", "17", False), (None, "17", True), (None, "16", False), (None, None, False)],
)
def test_it_is_for_a_lock_or_for_an_allocation(
    files: WorkflowFiles, lock: str | None, slurm_job_id: str | None, meant: bool
) -> None:
    requests.leave(files, replace(REQUEST, lock=lock, slurm_job_id=slurm_job_id))
    assert (requests.find(files, OWNER) is not None) == meant
    assert os.path.exists(files.cancel_request)


def test_a_supervisor_without_an_allocation_is_meant_by_no_allocation(files: WorkflowFiles) -> None:
    requests.leave(files, replace(REQUEST, lock=None, slurm_job_id=None))
    assert requests.find(files, replace(OWNER, slurm_job_id=None)) is None


def test_links_pipes_and_files_of_others_are_not_read(files: WorkflowFiles, tmp_path: Path) -> None:
    """Control: the same text in a file of our own is."""
    requests.leave(files, REQUEST)
    real = tmp_path / "real"
    os.rename(files.cancel_request, real)
    os.symlink(real, files.cancel_request)
    with pytest.raises(OSError, match="symbolic links"):
        requests.find(files, OWNER)
    os.unlink(files.cancel_request)
    os.mkfifo(files.cancel_request)
    assert requests.find(files, OWNER) is None
    os.unlink(files.cancel_request)
    os.rename(real, files.cancel_request)
    if os.geteuid() == 0:
        os.chown(files.cancel_request, 12345, -1)
        assert requests.find(files, OWNER) is None
        os.chown(files.cancel_request, 0, -1)
    assert requests.find(files, OWNER) == REQUEST


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"lock":"abc"}', b"\xff"])
def test_what_is_no_request_is_passed_over(files: WorkflowFiles, text: bytes) -> None:
    Path(files.cancel_request).write_bytes(text)
    assert requests.find(files, OWNER) is None
