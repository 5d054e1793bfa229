"""Memory sizes as Torc writes them: a whole number and one letter, in binary units."""

from __future__ import annotations

import re

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
PATTERN = r"^\s*[0-9]+[kKmMgGtT]?\s*$"
MAX_BYTES = (1 << 63) - 1

_SIZE = re.compile(r"([0-9]+)([kmgt]?)", re.ASCII)
_NEAR = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([kmgt]?)(i?b)?", re.ASCII)


def parse_memory(text: str) -> int:
    """Bytes of a memory size such as ``4g``, ``512m`` or ``1024``.

    Args:
        text: a whole number, then k, m, g or t of any case for KiB, MiB, GiB, TiB; no letter means bytes.

    Raises:
        ValueError: anything else, with the right spelling where it can be guessed.
    """
    lowered = text.strip().lower()
    if not lowered:
        raise ValueError("a memory size cannot be empty; write for example 4g")
    match = _SIZE.fullmatch(lowered)
    if match is None:
        raise ValueError(_explain(text, lowered))
    if len(match[1]) > 20 or (size := int(match[1]) * UNITS[match[2]]) > MAX_BYTES:
        raise ValueError(f"{text.strip()[:40]!r} is more memory than can be counted")
    return size


def _explain(text: str, lowered: str) -> str:
    wrong = f"{text.strip()[:40]!r} is not a memory size"
    near = _NEAR.fullmatch(lowered)
    if near is None or len(lowered) > 24:
        return f"{wrong}; write a whole number and k, m, g or t, for example 4g"
    whole, decimals, letter, _ = near.groups()
    if decimals is None or not int(decimals):
        return f"{wrong}; write {whole}{letter}"
    if letter in ("", "k"):
        return f"{wrong}: decimals are not accepted; write {whole}{letter}"
    smaller = {"m": "k", "g": "m", "t": "g"}[letter]
    return f"{wrong}: decimals are not accepted; write {round(float(f'{whole}.{decimals}') * 1024)}{smaller}"
