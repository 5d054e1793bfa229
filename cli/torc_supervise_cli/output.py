"""What goes to stdout and stderr: tables for people, one JSON document for programs, chatter beside them.

No rich here: ``status`` must not wait for its import, and all commands should look the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY
from torc_supervise_cli.streams import discard

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any

_COLOURS = {
    "completed": "32",
    "running": "36",
    "terminating": "33",
    "terminated": "33",
    "failed": "31",
    "canceled": "31",
    "ready": "1",
    "killed": "31",
    "unkillable": "31",
    "lost": "31",
}


def say(text: str) -> None:
    """One line of chatter; that nobody reads it is no error."""
    try:
        print(f"torc-supervise: {text}", file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    from msgspec import json

    write_bytes(json.encode(document) + b"\n")


def write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def colour(word: str, text: str | None = None) -> str:
    """``text`` (or the word itself) in the colour of a status, on a terminal that wants colour."""
    text = word if text is None else text
    code = _COLOURS.get(word)
    return f"\x1b[{code}m{text}\x1b[0m" if code and _wants_colour() else text


def bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if _wants_colour() else text


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Columns as wide as they need to be; the headings named in ``right`` are aligned to the right.

    None is shown as nothing; statuses get their colour.
    """
    if not rows:
        return
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(heading), *(len(row[i]) for row in cells)) for i, heading in enumerate(headings)]
    print("  ".join(bold(_pad(h, widths[i], h in right)) for i, h in enumerate(headings)).rstrip())
    for row in cells:
        padded = [_pad(cell, widths[i], headings[i] in right) for i, cell in enumerate(row)]
        print("  ".join(colour(cell, text) for cell, text in zip(row, padded, strict=True)).rstrip())


def counts_text(counts: dict[str, int]) -> str:
    """{"completed": 2, "failed": 0, "blocked": 1} -> "2 completed, 1 blocked"."""
    return ", ".join(f"{count} {colour(status)}" for status, count in counts.items() if count) or "none"


def duration_text(seconds: float | None) -> str | None:
    """0.5 -> "0.50 s", 62 -> "1:02", 3723 -> "1:02:03"."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bytes_text(amount: int | None) -> str | None:
    """1536 -> "1.5 KiB"."""
    if amount is None:
        return None
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def command(words: str, output: str) -> str:
    """A command line as it has to be typed here, with the output directory where it is not the usual one."""
    usual = os.path.abspath(output) == os.path.abspath(DEFAULT_OUTPUT_DIRECTORY)
    return f"torc-supervise {words}" + ("" if usual else f" -o {_quoted(output)}")


def plural(count: int, noun: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ended_text(row: dict[str, Any]) -> str | None:
    """How an attempt ended and why, for people: "killed (runtime limit)", "within its grace, checkpoint saved"."""
    if row["ended"] is None:
        return None
    text = "within its grace" if row["ended"] == "in_grace" else str(row["ended"])
    if row.get("why") is not None:
        text += f" ({row['why'].replace('_', ' ')})"
    saved = row.get("checkpoint_saved")
    return text if saved is None else f"{text}, checkpoint {'saved' if saved else 'not saved'}"


def _quoted(path: str) -> str:
    """As a shell takes it.  shlex is imported here because hardly anybody needs it."""
    import shlex

    return shlex.quote(path)


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _wants_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
