"""The error tree and the exit codes of the program.

Every error that a user can cause derives from :class:`TorcError` and carries what is wrong, where, and the
way out.  The command line prints it and leaves with :attr:`TorcError.exit_code`; anything else that reaches
the top is a bug of ours and leaves with :data:`EXIT_OURS`.
"""

from __future__ import annotations

EXIT_OK = 0  # every job completed
EXIT_FAILED = 1  # some job failed or was canceled
EXIT_USAGE = 2  # bad usage or a bad workflow file: nothing was started, nothing was written
EXIT_OURS = 70  # EX_SOFTWARE: an error of ours
EXIT_RESUME = 75  # EX_TEMPFAIL: stopped early with work left; running it again goes on


class TorcError(Exception):
    """Something the user can mend.

    Args:
        message: what is wrong, and where.
        hint: the way out, as one sentence; printed on a line of its own.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(TorcError):
    """The command line asks for something that does not make sense."""


class WorkflowNotFound(TorcError):
    """There is no workflow of that id in that output directory."""


class WorkflowBusy(TorcError):
    """Another live supervisor or command owns the workflow."""


class JournalError(TorcError):
    """The journal cannot be read: the message names file, line and byte."""

    exit_code = EXIT_OURS
