"""A simulated run with errands: a test answers the chores that they ask for."""

from __future__ import annotations

from typing import Any

from support.replaying import World
from torc_supervise.machine import records as r
from torc_supervise.machine.supervision import Do


class Office(World):
    """A World whose chores wait for the test to say what they came to."""

    def __init__(self, *jobs: Any, **fields: Any) -> None:
        self.answered: set[int] = set()
        super().__init__(*jobs, **fields)

    def open(self, kind: str) -> list[Do]:
        """Chores of a kind that were asked for and not answered, oldest first."""
        return [
            chore for _, chore in self.chores if chore.kind == kind and chore.chore_id not in self.answered
        ]

    def asked(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        """All chores of a kind: seconds since the start, and what they are told."""
        return [(round(at - self.start, 6), chore.body) for at, chore in self.chores if chore.kind == kind]

    def answer(self, kind: str, **answer: Any) -> Office:
        """Answer the oldest open chore of that kind, and let a turn pass."""
        chore = self.open(kind)[0]
        self.answered.add(chore.chore_id)
        self.answer_chore(chore.chore_id, {"ok": True, **answer})
        self.turn()
        return self

    def warnings(self) -> list[str]:
        return [record.code for record in self.of(r.Warned)]

    def taken(self) -> list[tuple[int, bool]]:
        """Actions that were taken: position, and whether it went well."""
        return [(record.action, record.ok) for record in self.of(r.ActionTaken)]


def entry(trigger: str, *job_ids: int, kind: str = "run_commands", **fields: Any) -> dict[str, Any]:
    """An item of ``actions`` as the journal has it."""
    what = {"commands": ["true"]} if kind == "run_commands" else {"scheduler": "s", "scheduler_type": "slurm"}
    ids = {"job_ids": list(job_ids)} if job_ids else {}
    return {"trigger_type": trigger, "action_type": kind, **what, **ids, **fields}
