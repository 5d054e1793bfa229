"""Trust: nobody else may lead what we write somewhere else.

The names of what a supervisor writes can be guessed, so in a directory that others may write they could put a symbolic
link in its place.  Checked are owner and mode of the directories that are written to.  Sharing one within a group on
purpose (its group is ours, and may write) is allowed.
"""

from __future__ import annotations

import os
import stat

from torc_supervise.errors import TorcError
from torc_supervise.store.layout import WorkflowFiles


def check(files: WorkflowFiles, made_by_us: str) -> None:
    """Refuse directories that belong to, or can be written by, somebody we have no reason to trust.

    Args:
        made_by_us: path of something there that this process has made: some file systems know us by another number.

    Raises:
        TorcError: naming directory, owner and the way out.
        OSError: they cannot be looked at.
    """
    ours = {os.geteuid(), 0, os.lstat(made_by_us).st_uid}
    workflows = os.path.dirname(files.directory)
    for path in (files.output, workflows, files.stdio_directory, files.directory):
        _check(path, ours, shared_with_all=path == files.output)


def _check(path: str, ours: set[int], *, shared_with_all: bool) -> None:
    about = os.stat(path)
    link = os.lstat(path)
    mode = stat.S_IMODE(about.st_mode)
    in_group = bool(mode & stat.S_IWGRP) and about.st_gid in {os.getegid(), *os.getgroups()}
    if link.st_uid not in ours and stat.S_ISLNK(link.st_mode):
        raise _refused(path, f"is a symbolic link of the user with id {link.st_uid}")
    if about.st_uid not in ours and not in_group and not (shared_with_all and mode & stat.S_ISVTX):
        raise _refused(path, f"belongs to the user with id {about.st_uid}")
    if mode & stat.S_IWOTH and not (shared_with_all and mode & stat.S_ISVTX):
        raise TorcError(
            f"{path} can be written by everybody: what we write there could be led elsewhere",
            f"'chmod o-w {path}', or choose another directory with --output-dir",
        )


def _refused(path: str, what: str) -> TorcError:
    return TorcError(
        f"{path} {what}: what we write there could be led elsewhere",
        "choose another directory with --output-dir",
    )
