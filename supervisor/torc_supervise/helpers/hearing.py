"""Hearing: what the keeper says, as the reports that a Supervision takes (``helpers.messages`` has the letters)."""

from __future__ import annotations

from collections.abc import Callable

from torc_supervise.helpers import messages
from torc_supervise.machine.events import Verified
from torc_supervise.machine.supervision import Supervision


def pass_on(line: bytes, supervision: Supervision, warn: Callable[[str, str], None]) -> None:
    """One line of the keeper's.

    Args:
        warn: takes the code and the text of a warning.
    """
    match line[:1]:
        case b"V":
            answer = messages.body(line)
            seen = tuple((name, mtime) for name, mtime in answer["seen"])
            verified = Verified(tuple(answer["missing"]), seen, answer["checkpoint_saved"])
            supervision.on_verified(answer["job_id"], verified)
        case b"X":
            answer = messages.body(line)
            supervision.on_chore_done(answer["chore_id"], answer["answer"])
        case b"C":
            supervision.on_cancel(messages.body(line))
        case b"O":
            supervision.on_owner_changed(messages.body(line))
        case b"W":
            warning = messages.body(line)
            warn(warning["code"], warning["message"])
