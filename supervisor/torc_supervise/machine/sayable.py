"""Text that is no text: a path of a file system need not be UTF-8.

Python holds such bytes as surrogates, which neither JSON nor MessagePack can say.
"""

from __future__ import annotations

from typing import Any


def sayable(value: Any) -> Any:
    """The same with every string in valid UTF-8: a byte that is none becomes U+FFFD."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {sayable(key): sayable(item) for key, item in value.items()}
        case list() | tuple():
            return [sayable(item) for item in value]
        case _:
            return value
