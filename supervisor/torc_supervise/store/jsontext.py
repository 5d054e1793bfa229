"""JSON in one piece, by msgspec, which is loaded anyway: the import of another library would be a tenth of a start."""

from __future__ import annotations

from typing import Any

from msgspec import DecodeError, json


class NotJsonError(ValueError):
    """This is no JSON."""


def dumps(value: Any) -> bytes:
    """Without spaces; keys of dictionaries that are numbers become text.

    Raises:
        UnicodeEncodeError: a string is none in UTF-8, as Python holds a path that is not.
    """
    return _ENCODER.encode(value)


def dumps_text(value: Any) -> bytes:
    """For records and people: of a string that is none in UTF-8, what is wrong becomes U+FFFD."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_sayable(value))


def loads(data: bytes | bytearray) -> Any:
    """Raises :class:`NotJsonError`."""
    try:
        return json.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJsonError(str(error)) from error


def _sayable(value: Any) -> Any:
    """A path of a file system need not be UTF-8; Python holds such bytes as surrogates, which JSON cannot say."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_sayable(key): _sayable(item) for key, item in value.items()}
        case list() | tuple():
            return [_sayable(item) for item in value]
        case _:
            return value


_ENCODER = json.Encoder()
