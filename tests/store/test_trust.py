"""Directories that somebody else could lead our files elsewhere from are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from torc_supervise.errors import EXIT_USAGE, TorcError
from torc_supervise.store import trust
from torc_supervise.store.layout import WorkflowFiles, claim_new

NOBODY = 65534


@pytest.fixture
def files(tmp_path: Path) -> WorkflowFiles:
    return claim_new(str(tmp_path / "out"))


def check(files: WorkflowFiles) -> None:
    trust.check(files, files.directory)


def places(files: WorkflowFiles) -> dict[str, str]:
    return {
        "output": files.output,
        "workflows": os.path.dirname(files.directory),
        "job_stdio": files.stdio_directory,
        "workflow": files.directory,
    }


EVERY = pytest.mark.parametrize("place", ["output", "workflows", "job_stdio", "workflow"])


def test_what_we_made_ourselves_is_trusted(files: WorkflowFiles) -> None:
    check(files)


def test_what_we_make_under_any_umask_is_trusted(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = claim_new(str(tmp_path / "out"))
    finally:
        os.umask(before)
    check(made)
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in places(made).values()} == {0o775}


@EVERY
def test_a_directory_that_everybody_may_write_is_refused(files: WorkflowFiles, place: str) -> None:
    path = places(files)[place]
    os.chmod(path, 0o777)
    with pytest.raises(TorcError, match="written by everybody") as caught:
        check(files)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.hint is not None
    assert f"chmod o-w {path}" in caught.value.hint


def test_an_output_directory_like_tmp_is_allowed(files: WorkflowFiles) -> None:
    """Sticky: nobody replaces what we made in it."""
    os.chmod(files.output, 0o1777)
    check(files)


@pytest.mark.root
@pytest.mark.parametrize("place", ["workflows", "job_stdio"])
def test_a_directory_of_somebody_else_is_refused(files: WorkflowFiles, place: str) -> None:
    """Prepared in a shared /tmp, with links in it, before we came."""
    os.chown(places(files)[place], NOBODY, NOBODY)
    with pytest.raises(TorcError, match=f"belongs to the user with id {NOBODY}"):
        check(files)


@pytest.mark.root
def test_a_link_of_somebody_else_is_refused(files: WorkflowFiles, tmp_path: Path) -> None:
    os.rmdir(files.stdio_directory)
    target = tmp_path / "mine"
    target.mkdir()
    os.symlink(target, files.stdio_directory)
    check(files)
    os.lchown(files.stdio_directory, NOBODY, NOBODY)
    with pytest.raises(TorcError, match=f"symbolic link of the user with id {NOBODY}"):
        check(files)


@pytest.mark.root
def test_a_directory_that_a_group_shares_on_purpose_is_allowed(files: WorkflowFiles) -> None:
    os.chown(files.stdio_directory, NOBODY, os.getegid())
    os.chmod(files.stdio_directory, 0o2775)
    check(files)


@pytest.mark.root
def test_a_file_system_that_knows_us_by_another_number(files: WorkflowFiles) -> None:
    """Squashed ids of a file server: what we have just made belongs to that number as well."""
    for path in places(files).values():
        os.chown(path, NOBODY, NOBODY)
    check(files)
