"""What is wrong with a workflow file, where, and the way out."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from torc_supervise.errors import TorcError


class Problem(Struct, frozen=True):
    """One mistake (or one warning) with its place.

    Args:
        file: name of the file as the user gave it; ``<stdin>`` for standard input.
        line, column: counted from 1; both 0 where the file as a whole is meant.
        path: the field, for example ``jobs[2].depends_on[0]``; empty where no field is meant.
        message: what is wrong.
        hint: the way out.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str | None = None

    def render(self) -> str:
        """One line: ``workflow.yaml:12:18: jobs[2].depends_on[0]: no job named 'a'; did you mean 'b'?``"""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = self.message if self.hint is None else f"{self.message}; {self.hint}"
        return f"{place}: {self.path}: {text}" if self.path else f"{place}: {text}"

    def __str__(self) -> str:
        return self.render()


class SpecError(TorcError):
    """A workflow file that cannot be used.

    Args:
        problems: everything that was found, in any order; kept sorted by position in :attr:`problems`.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: (p.line, p.column, p.path)))
        super().__init__("\n".join(problem.render() for problem in self.problems))


def quoted(text: str, limit: int = 60) -> str:
    """The text in quotes, escaped and cut so that one message stays one readable line."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'x'?``, or None where nothing is close.

    Args:
        name: what was written.
        known: the names that would have been right; a very long list is not searched (difflib is quadratic).
    """
    close = closest(name, known)
    return f"did you mean {quoted(close)}?" if close is not None else None


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` most likely stands for; None where nothing is close."""
    candidates = list(known)
    if len(candidates) > 20_000 or len(name) > 200:
        return None
    import difflib  # slow to import: for mistakes alone

    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def one_of(choices: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``."""
    *rest, last = [repr(choice) for choice in choices]
    return f"{', '.join(rest)} or {last}" if rest else last
