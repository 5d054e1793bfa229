"""``${files.input.NAME}`` and its kin in commands."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

# A shell variable cannot have a dot in its name, so whatever starts like this is meant for us.
_VARIABLE = re.compile(r"\$\{(files|user_data)\.([^{}]*)\}")
_PARTS = re.compile(r"(input|output)\.(.+)", re.DOTALL)

# The number of the variable in the text, how it is written, its class, the name (empty: malformed).
Complain = Callable[[int, str, str, str], None]


class Variables:
    """The values that commands may refer to.

    Args:
        files: path of each file by name.
        user_data: JSON value of each user_data item by name.
    """

    def __init__(self, files: Mapping[str, str], user_data: Mapping[str, Any]) -> None:
        self.files = files
        self.user_data = user_data
        self._json: dict[str, str] = {}  # texts of user_data that were asked for

    def substitute(self, text: str, used: dict[str, list[str]], complain: Complain) -> str:
        """The text with every variable replaced by a path or by JSON text.

        Args:
            text: a command.
            used: gets the names that occur, under ``input_files``, ``output_files``, ``input_user_data`` and
                ``output_user_data``.
            complain: called for each variable that does not exist; it stays as it is.
        """
        if "${" not in text:
            return text

        numbers = itertools.count()

        def value_of(match: re.Match[str]) -> str:
            kind, number = match[1], next(numbers)
            parts = _PARTS.fullmatch(match[2])
            if parts is None:
                complain(number, match[0], kind, "")
                return match[0]
            direction, name = parts.groups()
            value = self._value(kind, name)
            if value is None:
                complain(number, match[0], kind, name)
                return match[0]
            used.setdefault(f"{direction}_{kind}", []).append(name)
            return value

        return _VARIABLE.sub(value_of, text)

    def _value(self, kind: str, name: str) -> str | None:
        if kind == "files":
            return self.files.get(name)
        if name in self.user_data and name not in self._json:
            self._json[name] = json.dumps(self.user_data[name], ensure_ascii=False, separators=(",", ":"))
        return self._json.get(name)
