"""Attempts: which processes have come of which attempt, as the kernel knows it, whatever they have done since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulator.fibers import NEVER
from support.fake_kernel import Process
from torc_supervise.machine.records import JobEnded


@dataclass(eq=False)
class Attempt:
    """One leader and what was sent to its group."""

    process: Process
    job_id: int
    attempt_id: int
    run_id: int
    started: float
    sent: list[tuple[float, int, str]] = field(default_factory=list)  # when, what, by whom
    exited: float = NEVER
    kill_due: float = NEVER  # SIGKILL must be out by then
    is_lost: bool = False  # its supervisor was killed
    is_known: bool = False  # to the will that goes on with it
    is_out_of_sight: bool = False  # given up at a time when nobody could look

    def killed_at(self) -> float:
        return next((at for at, signum, _ in self.sent if signum == 9), NEVER)


class Attempts:
    """All of a day.  ``untraceable``: processes of which only a living supervisor can tell whose they are."""

    def __init__(self, processes: dict[int, Process]) -> None:
        self._processes = processes  # the kernel's table
        self._by_leader: dict[Process, Attempt] = {}
        self._family: dict[Process, Attempt] = {}
        self.untraceable: set[Process] = set()

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._by_leader.values())

    def add(self, process: Process, now: float) -> Attempt:
        """A leader was spawned."""
        names = ("TORC_JOB_ID", "TORC_ATTEMPT_ID", "TORC_RUN_ID")
        job_id, attempt_id, run_id = (int(process.environment[name]) for name in names)
        attempt = Attempt(process, job_id, attempt_id, run_id, now)
        self._by_leader[process] = self._family[process] = attempt
        return attempt

    def forked(self, child: Process, parent: Process) -> None:
        self._family[child] = self._family[parent]

    def of(self, process: Process) -> Attempt | None:
        """Where a process comes from; None for a stranger."""
        return self._family.get(process)

    def led_by(self, process: Process | None) -> Attempt | None:
        return None if process is None else self._by_leader.get(process)

    def left_of(self, attempt: Attempt) -> list[Process]:
        """Its living processes, wherever they are."""
        there = self._processes.values()
        return [process for process in there if process.alive and self._family.get(process) is attempt]

    def number_is_anothers(self, attempt: Attempt) -> bool:
        """Its number went to somebody who is stuck, so that nobody can read whose that is."""
        there = [
            each
            for each in self._processes.values()
            if each.pgid == attempt.process.pid and each.uninterruptible
        ]
        return any(self._family.get(process) is not attempt for process in there)

    def with_result(self, record: JobEnded) -> Attempt | None:
        """None where there never was a process.

        Where nothing of a run came to the disk (a power failure) the next one gives its attempts the same numbers.
        """
        key = (record.run_id, record.job_id, record.attempt_id)
        its = [each for each in self if (each.run_id, each.job_id, each.attempt_id) == key]
        return its[-1] if its else None
