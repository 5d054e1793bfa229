"""Chores: what errands ask of the keeper, each in a thread of its own, because all of them may be slow or hang.

A chore takes a dict and returns one; an error is an answer as well.  What it does must not need the parent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torc_supervise.errors import TorcError
from torc_supervise.helpers import commands, messages, queueing
from torc_supervise.slurm.ask import ask
from torc_supervise.slurm.end_steps import end_steps

Body = dict[str, Any]
KINDS: dict[str, Callable[[Body], Body]] = {
    "ask_slurm": ask,
    "end_steps": end_steps,
    "run_commands": commands.run_commands,
    "end_commands": commands.end_commands,
    "end_left_commands": commands.end_left_commands,
    "submit": queueing.queue_allocation,
    "look_at_files": queueing.look_at_files,
    "scancel": queueing.cancel_allocations,
}
"""kind -> what does it.  The answer gets ``ok: true`` unless it says otherwise."""


class Chores:
    """Runs chores; ``tell`` gets the line with each answer, from that chore's thread."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell

    def begin(self, chore_id: int, kind: str, body: Body) -> None:
        threading.Thread(target=self._work, args=(chore_id, kind, body), name=kind, daemon=True).start()

    def _work(self, chore_id: int, kind: str, body: Body) -> None:
        try:
            answer = {"ok": True, **KINDS[kind](body)}
        except TorcError as error:
            answer = {"ok": False, "kind": type(error).__name__, "message": error.message}
        except OSError as error:
            answer = {"ok": False, "kind": "OSError", "message": str(error)}
        except Exception as error:  # noqa: BLE001  # a bug of ours; without an answer a run would wait for its own limit
            answer = {"ok": False, "kind": type(error).__name__, "message": f"an error of ours: {error!r}"}
        self._tell(messages.line("X", {"chore_id": chore_id, "answer": answer}))
