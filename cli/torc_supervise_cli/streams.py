"""Standard input, output and error, where the caller closed them or has gone away."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import TextIO


def open_closed() -> None:
    """Have /dev/null wherever we were started without a standard stream (``>&-``).

    Otherwise the next file that is opened gets its number, and what is printed goes there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _point_to_null(number)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def discard(stream: TextIO) -> None:
    """Its reader has gone: nothing that is still to be written to it matters, also not when Python closes it."""
    _point_to_null(stream.fileno())


def _point_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
