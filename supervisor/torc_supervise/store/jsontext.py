"""JSON in one piece, by msgspec, which is loaded anyway: the import of another library would be a tenth of a start."""

from __future__ import annotations

from typing import Any

from msgspec import DecodeError, json


class NotJsonError(ValueError):
    """This is no JSON."""


def dumps(value: Any) -> bytes:
    """Without spaces; keys of dictionaries that are numbers become text.

    Raises:
        UnicodeEncodeError: a string is none in UTF-8, see ``machine.sayable``.
    """
    return _ENCODER.encode(value)


def loads(data: bytes | bytearray) -> Any:
    """Raises :class:`NotJsonError`."""
    try:
        return json.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJsonError(str(error)) from error


_ENCODER = json.Encoder()
