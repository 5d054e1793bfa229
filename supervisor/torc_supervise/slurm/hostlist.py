"""Host lists as Slurm writes them: ``n[1-3,5],m1`` and back.  Padding with zeros is kept."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\],]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_NUMBERED = re.compile(r"(.*?)(\d+)")

MOST_HOSTS = 1 << 17
"""More than this is no cluster but a mistake, and would fill the memory."""


def expand(text: str) -> list[str]:
    """ "n[1-3,5],m1" -> ["n1", "n2", "n3", "n5", "m1"].  Several brackets in one name multiply.

    Raises:
        ValueError: the text is no host list; the message says what is wrong with it.
    """
    return [name for item in _items(text) for name in _names(item)]


def compress(names: Iterable[str]) -> str:
    """["n1", "n2", "n3", "m1"] -> "n[1-3],m1".  Names keep their order; only neighbours are joined."""
    parts: list[str] = []
    for prefix, group in itertools.groupby(map(_split, names), lambda split: split[0]):
        numbers = [number for _, number in group]
        if prefix is None:
            parts += numbers
            continue
        ranges = list(_ranges(numbers))
        alone = len(numbers) == 1
        parts.append(f"{prefix}{numbers[0]}" if alone else f"{prefix}[{','.join(ranges)}]")
    return ",".join(parts)


def _items(text: str) -> Iterator[str]:
    """Cut at commas that are not in brackets."""
    depth, begin = 0, 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if not 0 <= depth <= 1:
            raise ValueError(f"brackets do not match: {text!r}")
        if character == "," and not depth:
            yield text[begin:position].strip()
            begin = position + 1
    if depth:
        raise ValueError(f"a bracket is not closed: {text!r}")
    if last := text[begin:].strip():
        yield last


def _names(item: str) -> list[str]:
    if not item:
        raise ValueError("an empty name in a host list")
    choices: list[list[str]] = []
    for match in _PIECE.finditer(item):
        choices.append([match[2]] if match[2] is not None else list(_numbers(match[1])))
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_HOSTS:
        raise ValueError(f"{item!r} stands for {count} hosts")
    return list(map("".join, itertools.product(*choices)))


def _numbers(ranges: str) -> Iterator[str]:
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"not a range of numbers: {part!r}")
        first, last = match[1], match[2] or match[1]
        if not 0 <= int(last) - int(first) < MOST_HOSTS:
            raise ValueError(f"not a range of numbers: {part!r}")
        yield from (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))


def _split(name: str) -> tuple[str | None, str]:
    """Prefix and number at the end; None and the name where there is no number."""
    match = _NUMBERED.fullmatch(name)
    return (None, name) if match is None else (match[1], match[2])


def _ranges(numbers: list[str]) -> Iterator[str]:
    begin = 0
    for position in range(1, len(numbers) + 1):
        first, last = numbers[begin], numbers[position - 1]
        if position < len(numbers) and numbers[position] == str(int(last) + 1).zfill(len(first)):
            continue
        yield first if first == last else f"{first}-{last}"
        begin = position
