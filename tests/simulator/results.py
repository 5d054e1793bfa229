"""Results: the rules about records, as a supervisor or a last will hands them on, and about what is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulator.attempts import Attempt, Attempts
from simulator.fibers import NEVER, Broken, Hub
from support.fake_kernel import Process
from torc_supervise.exitstatus import Exited
from torc_supervise.machine import records as r

UNKILLABLE_AFTER = 10.0  # docs/signals.md


class Results:
    """``records``: of the present run, by its supervisor.  ``acknowledged``: the last number that was confirmed."""

    def __init__(self, hub: Hub, attempts: Attempts, blind_until: Callable[[], float]) -> None:
        self._hub, self._attempts, self._blind_until = hub, attempts, blind_until
        self._refused: set[int] = set()  # jobs that the machine had no room for at their last try
        self.records: list[r.Record] = []
        self.acknowledged = 0

    def broken(self, what: str) -> Broken:
        return self._hub.broken(what)

    def tried(self, environment: Mapping[str, str], *, machine_full: bool) -> None:
        """A spawn came to something."""
        job_id = int(environment["TORC_JOB_ID"])
        if machine_full:
            self._refused.add(job_id)
        else:
            self._refused.discard(job_id)

    def recorded(self, record: r.Record) -> None:
        """The supervisor hands a record to its link."""
        self.records.append(record)
        match record:
            case r.JobStarted(pid=0, job_id=job_id) if job_id in self._refused:
                raise self.broken(f"P11: job {job_id} failed because the machine was full")
            case r.JobEnded():
                self._check(record)

    def _check(self, record: r.JobEnded) -> None:
        key = (record.run_id, record.job_id, record.attempt_id)
        ends = [each for each in self.records if isinstance(each, r.JobEnded)]
        if sum((each.run_id, each.job_id, each.attempt_id) == key for each in ends) > 1:
            raise self.broken(f"P9: job {record.job_id} has two results")
        attempt = self._attempts.with_result(record)
        if attempt is None:
            return
        left = self._attempts.left_of(attempt)
        if record.ended == "unkillable":
            self._check_unkillable(attempt, left)
            return
        if attempt.exited == NEVER or left:
            raise self.broken(f"P4: job {record.job_id} is over and {len(left)} of its processes live")
        if record.status == "completed":
            if attempt.process.exit != Exited(0):
                raise self.broken(f"P9: completed with {attempt.process.exit}")
            if any(at < attempt.exited for at, _, _ in attempt.sent):
                raise self.broken("P6: completed, although it was signalled while it ran")

    def _check_unkillable(self, attempt: Attempt, left: list[Process]) -> None:
        if self._hub.now < attempt.killed_at() + UNKILLABLE_AFTER - 1e-3:
            raise self.broken(f"P12: job {attempt.job_id} is given up too early")
        if self._blind_until() > attempt.killed_at():
            attempt.is_out_of_sight = True  # nobody can tell
            return
        if not any(process.uninterruptible for process in left):
            raise self.broken(f"P12: job {attempt.job_id} is given up, and nothing of it is unkillable")

    def recorded_by_will(self, record: r.Record) -> None:
        """A will records; what has no environment any more it cannot find."""
        attempt = self._attempts.with_result(record) if isinstance(record, r.JobEnded) else None
        if attempt is None or not isinstance(record, r.JobEnded):
            return
        found = set(self._attempts.left_of(attempt)) - self._attempts.untraceable
        if record.ended == "unkillable":
            if not self._attempts.number_is_anothers(attempt):
                self._check_unkillable(attempt, list(found))
        elif any(attempt.is_known or not process.uninterruptible for process in found):
            # One that was adopted: what is stuck in the kernel cannot be asked whose it is.
            raise self.broken(f"P4: a will ends job {attempt.job_id}, of which {len(found)} processes live")

    def confirmed(self, seq: int, durable: int) -> None:
        """A keeper is about to tell its parent that records up to ``seq`` are durable; so many of them are."""
        if durable < seq:
            raise self.broken(f"P9: record {seq} is confirmed, and {durable} are durable")
        self.acknowledged = max(self.acknowledged, seq)
