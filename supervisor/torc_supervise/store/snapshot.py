"""status.json: replaced by rename, read without any lock."""

from __future__ import annotations

import os
import time

from torc_supervise.store.layout import WorkflowFiles


def replace(files: WorkflowFiles, document: bytes) -> None:
    """Make ``document`` the snapshot.  A reader sees the old one or the new one, never a part.

    Raises:
        OSError: the old one stays.
    """
    temporary = f"{files.snapshot}.new"
    with open(temporary, "wb") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, files.snapshot)


def age_seconds(files: WorkflowFiles) -> float:
    """How old the snapshot is, by the clock of this host and the file's modification time."""
    return max(0.0, time.time() - os.stat(files.snapshot).st_mtime)
