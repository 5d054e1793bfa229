"""status.json: replaced by rename, read without any lock."""

from __future__ import annotations

import json
import os

from torc_supervise.store.layout import WorkflowFiles

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def replace(files: WorkflowFiles, document: Iterable[bytes]) -> None:
    """Make ``document``, which comes in pieces, the snapshot.  A reader sees the old one or the new one, never a part.

    Raises:
        OSError: the old one stays.
    """
    temporary = f"{files.snapshot}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o644), "wb") as file:
        file.writelines(document)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, files.snapshot)


def head_of(first_line: bytes) -> dict[str, Any]:
    """The head, from the first line of a status document."""
    marker = b',"jobs":[\n'
    text = first_line[: -len(marker)] + b"}" if first_line.endswith(marker) else first_line
    head: dict[str, Any] = json.loads(text)
    return head
