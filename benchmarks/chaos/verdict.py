"""Verdict: what must be true of a round, from its journal and what its jobs have noted themselves."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from benchmarks.chaos.plan import GRACE, Job, Plan
from benchmarks.rounds import Books, Key, key

Notes = dict[str, dict[str, Any]]
"""Of one process: what it noted -> the line."""

LEFTOVER_GRACE = 5.0
"""Seconds that what a job leaves behind has, at least."""

SLACK = 0.1  # seconds between two entries that are as far apart as a grace is long


class Verdict:
    """``lenient``: a parent was killed, and what it had just started may have come to its own end unseen."""

    def __init__(self, plan: Plan, books: Books, ledger: str, *, lenient: bool) -> None:
        self._plan = plan
        self._books = books
        self._lenient = lenient
        self._jobs = {job.name: job for job in plan.jobs}
        self._processes: dict[tuple[Key, str, int], Notes] = defaultdict(dict)
        for line in ledger.splitlines():
            note = json.loads(line)
            attempt = note["run_id"], note["job_id"], note["attempt_id"]
            self._processes[attempt, note["role"], note["pid"]][note["what"]] = note

    def violations(self) -> list[str]:
        """Sentences; none where everything is as it was promised."""
        return [
            *self._of_the_journal(),
            *self._of_checkpoints(),
            *self._of_what_was_noted(),
            *self._of_the_end(),
        ]

    def _of_the_journal(self) -> Iterator[str]:
        if self._books.has_gap:
            yield "gap in the journal"
        for attempt in self._books.lost:
            yield f"no result: {self._name(attempt)}"
        for attempt in self._books.doubled:
            yield f"more than one result or start: {self._name(attempt)}"

    def _of_checkpoints(self) -> Iterator[str]:
        """What was asked had the time to save, and nothing that could save was killed without being asked."""
        if self._plan.hurries:
            return
        for (attempt, role, pid), notes in self._processes.items():
            job = self._job(attempt)
            if not job.checked or (job.scope == "leader" and role != "leader") or "ready" not in notes:
                continue
            if notes["ready"]["saves_in"] is None:
                continue
            who = f"{self._name(attempt)}, {role}, pid {pid}"
            if "asked" in notes and "saved" not in notes:
                if not self._had_its_time(attempt, role):
                    yield f"a checkpoint is lost: {who} was asked at {notes['asked']['mono']}"
            elif (
                "asked" not in notes and "done" not in notes and self._saves(job, role) and not self._lenient
            ):
                yield f"a checkpoint is lost: {who} was killed without being asked"

    def _of_what_was_noted(self) -> Iterator[str]:
        """The journal knows of every attempt that began, and says so of those that were asked to end."""
        results = {
            (entry["run_id"], entry["job_id"], entry["attempt_id"]): entry["status"]
            for entry in self._books.entries
            if entry["event"] == "job_ended"
        }
        for (attempt, role, pid), notes in self._processes.items():
            if attempt not in self._books.started:
                if not (self._lenient and "done" in notes):
                    yield f"not on record: {self._name(attempt)}, {role}, pid {pid} began"
            elif role == "leader" and "asked" in notes and results.get(attempt) != "terminated":
                yield f"was asked to end, and is {results.get(attempt)}: {self._name(attempt)}"

    def _of_the_end(self) -> Iterator[str]:
        found: dict[str, str] = dict.fromkeys(self._jobs, "never settled")
        names = self._books.names
        for entry in self._books.entries:
            if entry["event"] == "job_ended":
                found[names[entry["job_id"]]] = entry["status"]
        for name, status in self._plan.expected().items():
            if status != "canceled" and found[name] != status:
                yield f"{name} is {found[name]} in the end, not {status}"

    def _had_its_time(self, attempt: Key, role: str) -> bool:
        """Whether the promise was kept, by the journal: then the machine was too slow for what takes a second."""
        signals = [
            (entry["signal"], entry["mono"])
            for entry in self._books.entries
            if entry["event"] == "job_signaled" and key(entry) == attempt
        ]
        asked = min((at for name, at in signals if name != "SIGKILL"), default=math.inf)
        killed = min((at for name, at in signals if name == "SIGKILL"), default=0.0)
        return bool(killed - asked >= (GRACE - SLACK if role == "leader" else LEFTOVER_GRACE))

    def _saves(self, job: Job, role: str) -> bool:
        """Whether that process of the job saves when it is asked."""
        if role == "leader":
            return bool(job.script["on_term"] == "save")
        number = int(role.split()[1])
        return bool(job.script["family"][number - 1]["on_term"] == "save")

    def _job(self, attempt: Key) -> Job:
        return self._jobs[self._books.names[attempt[1]]]

    def _name(self, attempt: Key) -> str:
        run, job_id, number = attempt
        return f"{self._books.names[job_id]} in run {run}, attempt {number}"
