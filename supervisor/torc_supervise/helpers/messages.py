"""What parent and helpers say to each other: one line each, a letter for its kind, JSON or plain text behind it.

Records are sent as they are written to the journal (they begin with ``{``), so they are encoded once.  Nothing is
unpickled.

======  ==================  ==========================================================================================
letter  direction           meaning
======  ==================  ==========================================================================================
``{``   parent -> keeper    a record, with its ``seq``
``V``   both, keeper        question: look at a job's files; answer: what was seen
``P``   parent -> keeper    one line of text for stderr
``L``   parent -> keeper    leave: everything was said; write it, confirm it and exit
``X``   both, keeper        a chore: ``chore_id``, ``kind``, ``body``; what it came to: ``chore_id``, ``answer``
``E``   parent -> keeper    the end is another one: ``since``, ``end`` (null: none), ``headroom``, ``grace_scale``
``A``   keeper -> parent    records up to this number are durable
``Q``   parent -> keeper    a signal came: look whether somebody has left a request to cancel
``C``   keeper -> parent    somebody asked to cancel the workflow: ids of queued allocations that were canceled
``O``   keeper -> parent    the workflow has another owner now: who; nothing is written any more
``W``   keeper -> parent    a warning: ``code`` and ``message``
``J``   parent -> sampler   watch a job: ``job_id``, ``pid``, ``limit`` in bytes or null
``D``   parent -> sampler   a job is over: its id
``S``   sampler -> parent   a sample: ``[job_id, memory_bytes, cpu_percent, at_limit]``
======  ==================  ==========================================================================================
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.phases import NEVER
from torc_supervise.store.jsontext import dumps, loads


def line(letter: str, body: Any = None) -> bytes:
    """``letter`` and the JSON of ``body``, with a newline."""
    return letter.encode() + (dumps(body) if body is not None else b"") + b"\n"


def body(message: bytes) -> Any:
    """The JSON behind the letter."""
    return loads(message[1:])


def end_moved(since: float, wall: WallTime) -> bytes:
    """Since ``since`` (monotonic seconds) the end of the allocation is that of ``wall``."""
    end = wall.end if wall.known else None  # JSON knows no infinity
    fields = {"since": since, "end": end, "headroom": wall.headroom, "grace_scale": wall.grace_scale}
    return line("E", fields)


def moved_end(message: bytes) -> tuple[float, WallTime]:
    """The other way round."""
    fields = body(message)
    end = NEVER if fields["end"] is None else fields["end"]
    return fields["since"], WallTime(end, fields["headroom"], fields["grace_scale"])


class Inspection(Struct, frozen=True):
    """Question to the keeper: which of these files are there, and was the checkpoint replaced after the signal?

    ``outputs``: pairs of name and path.  ``signaled_at``: epoch seconds, None if the job was not asked to end.
    """

    job_id: int
    outputs: tuple[tuple[str, str], ...]
    checkpoint: str | None
    signaled_at: float | None
