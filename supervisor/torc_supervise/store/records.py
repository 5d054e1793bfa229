"""Records as JSON lines, and back."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec.structs import astuple

from torc_supervise.errors import JournalError
from torc_supervise.machine.records import RECORD_TYPES, Record

_FIELDS: dict[type[Record], tuple[str, ...]] = {cls: cls.__struct_fields__ for cls in RECORD_TYPES.values()}
_REQUIRED: dict[type[Record], frozenset[str]] = {
    cls: frozenset(cls.__struct_fields__[: -len(cls.__struct_defaults__) or None])
    for cls in RECORD_TYPES.values()
}
_TUPLES = ("job_ids", "gpus", "missing_outputs", "nodes")
_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
    "tuple": (list,),
    "dict": (dict,),
}


def _types_of(annotation: str) -> tuple[type, ...]:
    """JSON types of a field that is annotated so.  A bool is no int here."""
    plain, _, optional = annotation.partition(" | ")
    return _PLAIN[plain.partition("[")[0]] + ((type(None),) if optional else ())


_TYPES: dict[str, dict[str, tuple[type, ...]]] = {
    event: {name: _types_of(cls.__annotations__[name]) for name in cls.__struct_fields__}
    for event, cls in RECORD_TYPES.items()
}


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
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # A path of a file system need not be UTF-8; Python holds such bytes as surrogates, which JSON cannot say.
        return orjson.dumps(_sayable(line), option=orjson.OPT_APPEND_NEWLINE)


def _sayable(value: Any) -> Any:
    """The same with every string in valid UTF-8: a byte that is none becomes U+FFFD."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_sayable(key): _sayable(item) for key, item in value.items()}
        case list() | tuple():
            return [_sayable(item) for item in value]
        case _:
            return value


def decode(line: bytes) -> tuple[int, str, float, Record | None]:
    """(seq, t, mono, record); the record is None for an event that a newer version added.

    Raises:
        JournalError: not a line of ours; the caller adds where.
    """
    try:
        data = orjson.loads(line)
        seq, t, mono, event = data["seq"], data["t"], data["mono"], data["event"]
        cls = RECORD_TYPES.get(event)
        if type(seq) is not int or type(t) is not str or type(mono) not in (float, int):
            raise JournalError("not a record: t, mono or seq is of another type")
        if cls is None:
            return seq, t, mono, None
        values = {name: data[name] for name in _FIELDS[cls] if name in data}
        types = _TYPES[event]
        for name, value in values.items():
            if type(value) not in types[name]:
                raise JournalError(f"a {event} record whose {name} is {orjson.dumps(value).decode():.60}")
        if not _REQUIRED[cls] <= values.keys():
            raise JournalError(
                f"a {event} record without {', '.join(sorted(_REQUIRED[cls] - values.keys()))}"
            )
        for name in _TUPLES:
            if name in values:
                values[name] = tuple(values[name])
        return seq, t, mono, cls(**values)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise JournalError(f"not a record: {error}") from error
