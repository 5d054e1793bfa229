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
``A``   keeper -> parent    records up to this number are durable
``C``   keeper -> parent    somebody asked over the control socket to cancel the workflow
``W``   keeper -> parent    a warning: ``code`` and ``message``
``J``   parent -> sampler   watch a job: ``job_id``, ``pid``, ``limit`` in bytes or null
``D``   parent -> sampler   a job is over: its id
``S``   sampler -> parent   a sample: ``[job_id, memory_bytes, cpu_percent, at_limit]``
======  ==================  ==========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


def line(letter: str, body: Any = None) -> bytes:
    """``letter`` and the JSON of ``body``, with a newline."""
    return letter.encode() + (orjson.dumps(body) if body is not None else b"") + b"\n"


def body(message: bytes) -> Any:
    """The JSON behind the letter."""
    return orjson.loads(message[1:])


@dataclass(frozen=True, slots=True)
class Inspection:
    """Question to the keeper: which of these files are there, and was the checkpoint replaced after the signal?

    ``outputs``: pairs of name and path.  ``signaled_at``: epoch seconds, None if the job was not asked to end.
    """

    job_id: int
    outputs: tuple[tuple[str, str], ...]
    checkpoint: str | None
    signaled_at: float | None
