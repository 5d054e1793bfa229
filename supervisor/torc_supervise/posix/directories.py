"""Directories: making their entries durable."""

from __future__ import annotations

import os


def sync(path: str) -> None:
    """fsync(2) of a directory: a file that was made or renamed in it is there after a power failure, too.

    Raises:
        OSError: it cannot be opened, or the disk fails.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
