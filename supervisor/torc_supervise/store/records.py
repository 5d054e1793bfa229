"""Records as JSON lines, and back."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec import DecodeError, Struct, json
from msgspec.structs import astuple

from torc_supervise.errors import JournalError
from torc_supervise.machine.records import RECORD_TYPES, Record
from torc_supervise.store.jsontext import dumps_text

_FIELDS: dict[type[Record], tuple[str, ...]] = {cls: cls.__struct_fields__ for cls in RECORD_TYPES.values()}


class _Head(Struct, frozen=True, gc=False):
    """What every line begins with."""

    t: str
    mono: float
    seq: int
    event: str


_HEAD = json.Decoder(_Head)


@cache
def _decoder(event: str) -> json.Decoder[Any] | None:
    """Made when the first record of its type is read: all of them take a fortieth of a start."""
    cls = RECORD_TYPES.get(event)
    return json.Decoder(cls) if cls is not None else None


def encode(seq: int, t: str, mono: float, record: Record) -> bytes:
    """One line, with its newline: ``{"t", "mono", "seq", "event", ...}``; fields that are None are left out.

    Args:
        seq: number of the record in its journal, from 1, without gaps.
        t: UTC ISO 8601; ``mono``: seconds.
    """
    line: dict[str, Any] = {"t": t, "mono": round(mono, 6), "seq": seq, "event": record.event}
    for name, value in zip(_FIELDS[type(record)], astuple(record), strict=True):
        if value is not None:
            line[name] = value
    return dumps_text(line) + b"\n"


def decode(line: bytes) -> tuple[int, str, float, Record | None]:
    """(seq, t, mono, record); the record is None for an event that a newer version added.

    Raises:
        JournalError: not a line of ours; the caller adds where.
    """
    event = ""
    try:
        head = _HEAD.decode(line)
        event = head.event
        decoder = _decoder(event)
        return head.seq, head.t, head.mono, decoder.decode(line) if decoder is not None else None
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"a {event} record" if event in RECORD_TYPES else "not a record"
        raise JournalError(f"{what}: {error}") from error
