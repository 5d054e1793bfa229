"""ProcessTable: the phase of every attempt that is not over, and which process group is whose."""

from __future__ import annotations

from torc_supervise.machine import phases as p
from torc_supervise.machine.timers import Timers
from torc_supervise.workflow.model import JobId

_GONE = {p.Finished, p.PutBack}


class ProcessTable:
    """Invariants (:meth:`check`): ``groups[g]`` is j iff j's phase has group g; ``timers`` know every deadline."""

    def __init__(self) -> None:
        self.phases: dict[JobId, p.Phase] = {}
        self.groups: dict[int, JobId] = {}  # pgid -> job, abandoned ones included
        self.timers = Timers(self.phases)
        self._abandoned = 0  # how many phases are Abandoned

    @property
    def unfinished(self) -> int:
        """Attempts that somebody waits for."""
        return len(self.phases) - self._abandoned

    def is_draining(self, pgid: int) -> bool:
        """Whether this group may have members without their leader; of an abandoned one nobody knows."""
        job_id = self.groups.get(pgid)
        if job_id is None:
            return False
        phase = self.phases[job_id]
        return p.leader_gone(phase) or isinstance(phase, p.Abandoned)

    def replace(self, job_id: JobId, before: p.Phase, after: p.Phase) -> None:
        """A step was taken."""
        old = p.pgid_of(before)
        if old is not None and p.pgid_of(after) is None:
            del self.groups[old]
        if type(after) is not type(before):
            self._abandoned += (type(after) is p.Abandoned) - (type(before) is p.Abandoned)
        if type(after) in _GONE:
            self.phases.pop(job_id, None)
        else:
            self.phases[job_id] = after
            self.timers.note(job_id)

    def check(self) -> None:
        """Raise AssertionError if an invariant of the class does not hold."""
        groups = {pgid: j for j, phase in self.phases.items() if (pgid := p.pgid_of(phase)) is not None}
        assert groups == self.groups, "groups"
        assert self._abandoned == sum(isinstance(ph, p.Abandoned) for ph in self.phases.values()), "abandoned"
