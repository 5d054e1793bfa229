"""Lineage: which job a process belongs to that is not in any job's group (``setsid``, ``timeout``, a daemon) (P5).

In this order:

1. Ancestry that was seen: a process that was once found below a job's leader, or below a process of that job, is that
   job's, also when its ancestors are gone.
2. Its cgroup, where each job has one (``cgroups``): nobody leaves that.
3. Its mark (``marks``): the nonce of this run, job and attempt, where it started no earlier than the job's leader.
4. None of these, because it wiped its environment before anybody looked.  It descends from us, so a job has started
   it: one that was under way when it started.  It goes with the last one of these to end.

What carries another run's nonce is that run's business as long as its own supervisor is between it and us.
A process is known by pid and start time together: no number is mistaken for the one that had it before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from signal import SIGKILL

from msgspec import Struct

from torc_supervise.posix import cgroups, clock, marks, procfs
from torc_supervise.posix.marks import Mark
from torc_supervise.posix.procfs import ProcessStat

UNREADABLE_AFTER = 1.0
"""Seconds after which a process whose environment cannot be read now is taken for one that has none."""

Key = tuple[int, int]  # pid, start in clock ticks since boot


class UnknownYetError(Exception):
    """Whose a process is cannot be told now.  Ask again soon."""


class _Leader(Struct, frozen=True):
    mark: Mark | None
    cgroup: str | None
    since: int  # clock ticks since boot, no later than its start


class Lineage:
    """Invariant: ``_owner`` names only leaders that were added and not forgotten."""

    def __init__(self, *, strangers: bool) -> None:
        """``strangers``: somebody else's processes are below us, so an orphan without a mark may be one of theirs."""
        self._strangers = strangers
        self._leaders: dict[int, _Leader] = {}
        self._by_mark: dict[Mark, int] = {}
        self._by_cgroup: dict[str, int] = {}
        self._nonces: set[str] = set()  # of the marks that were added: one run has one
        self._owner: dict[Key, int] = {}
        self._unmarked: dict[Key, frozenset[int]] = {}  # -> leaders that were under way when it started
        self._unreadable_since: dict[Key, float] = {}

    def add(self, leader: int, mark: Mark | None, since: int, cgroup: str | None = None) -> None:
        """A job was started."""
        self._leaders[leader] = _Leader(mark, cgroup, since)
        if cgroup is not None:
            self._by_cgroup[cgroup] = leader
        if mark is not None:
            self._by_mark[mark] = leader
            self._nonces.add(mark.nonce)

    def forget(self, leader: int) -> None:
        """The job is over."""
        gone = self._leaders.pop(leader, None)
        if gone is not None and gone.mark is not None:
            self._by_mark.pop(gone.mark, None)
        if gone is not None and gone.cgroup is not None:
            self._by_cgroup.pop(gone.cgroup, None)
        for key in [key for key, owner in self._owner.items() if owner == leader]:
            del self._owner[key]

    def is_marked(self, leader: int) -> bool:
        """Whether a job's processes carry a mark."""
        return leader in self._leaders and self._leaders[leader].mark is not None

    def sort(
        self, tree: list[ProcessStat], groups: Collection[int], alive: Collection[int]
    ) -> Iterator[tuple[ProcessStat, int | None]]:
        """The processes of a tree, parents first, with the leader of the job that each belongs to.

        Args:
            tree: its root is a leader, or a child of ours that came from a job.
            groups: groups of ours, ``alive`` those whose leader is alive.

        Yields:
            with None for those of no job that is under way; without the processes that another supervisor sees to.

        Raises:
            UnknownYetError: nothing is decided.
        """
        owners: dict[int, int | None] = {}
        for about in tree:
            if about.pgid in groups:
                owner: int | None = about.pgid
            elif about is tree[0]:
                owner = self._owner_of_orphan(about, alive)
            elif about.ppid not in owners:
                continue  # below a process that is another supervisor's
            else:
                owner = owners[about.ppid]
                if owner is not None:
                    if self._is_anothers(about):
                        continue
                    owner = self._owner.setdefault((about.pid, about.start_ticks), owner)
            owners[about.pid] = owner
            yield about, owner

    def is_ours(self, about: ProcessStat) -> bool:
        """Whether an orphan that belongs to no job under way has come from a job at all."""
        key = (about.pid, about.start_ticks)
        if not self._strangers or key in self._owner:
            return True
        mark = self._mark_of(about)
        return mark is not None and mark.nonce in self._nonces

    def signal_for(self, about: ProcessStat, asked: Mapping[int, int]) -> int | None:
        """For an orphan that several jobs may have started: what it gets when all of them were signalled."""
        left = self._unmarked.get((about.pid, about.start_ticks), frozenset()) & self._leaders.keys()
        if not left or not left <= asked.keys():
            return None
        return min((asked[leader] for leader in left), key=lambda signum: signum == SIGKILL)

    def keep_only(self, orphans: Iterable[ProcessStat]) -> None:
        """Forget what is not there any more."""
        for key in self._unmarked.keys() - {(about.pid, about.start_ticks) for about in orphans}:
            del self._unmarked[key]
        for key in list(self._unreadable_since):
            now = procfs.stat(key[0])
            if now is None or now.start_ticks != key[1]:
                del self._unreadable_since[key]

    def _owner_of_orphan(self, about: ProcessStat, alive: Collection[int]) -> int | None:
        key = (about.pid, about.start_ticks)
        owner = self._known(about, orphan=True)
        if owner is not None:
            return owner
        if key not in self._unmarked:
            mark = self._mark_of(about)
            if mark is not None and mark.nonce in self._nonces:
                owner = self._by_mark.get(mark)
                if owner is None or about.start_ticks < self._leaders[owner].since:
                    return None  # of a job that is over
                self._owner[key] = owner
                return owner
            self._unmarked[key] = frozenset() if self._strangers else self._under_way(about.start_ticks)
        candidates = self._unmarked[key] & self._leaders.keys()
        if not candidates or not candidates.isdisjoint(alive):
            return None
        self._owner[key] = last = max(candidates, key=lambda leader: (self._leaders[leader].since, leader))
        return last

    def _known(self, about: ProcessStat, *, orphan: bool = False) -> int | None:
        """By ancestry or by cgroup; of an orphan also by one above its own: its job may have made some below its own.

        Not of what has living parents: below a supervisor that runs as a job are the cgroups of that one's jobs.
        Test: test_escapees.py::test_p5_in_a_cgroup_no_escapee_is_taken_for_another_jobs.
        """
        key = (about.pid, about.start_ticks)
        owner = self._owner.get(key)
        if owner is None and self._by_cgroup:
            path = cgroups.path_of(about.pid) or ""
            owner = self._by_cgroup.get(path)
            while owner is None and orphan and (path := path.rpartition("/")[0]):
                owner = self._by_cgroup.get(path)
            if owner is not None:
                self._owner[key] = owner
        return owner

    def _under_way(self, ticks: int) -> frozenset[int]:
        """Leaders that had started by then."""
        return frozenset(pgid for pgid, leader in self._leaders.items() if leader.since <= ticks)

    def _is_anothers(self, about: ProcessStat) -> bool:
        if self._known(about) is not None:
            return False
        mark = self._mark_of(about)
        return mark is not None and mark.nonce not in self._nonces

    def _mark_of(self, about: ProcessStat) -> Mark | None:
        key = (about.pid, about.start_ticks)
        block = marks.environment_block(about)
        if block is not None:
            self._unreadable_since.pop(key, None)
            return marks.parse(block)
        now = clock.monotonic()
        if now - self._unreadable_since.setdefault(key, now) < UNREADABLE_AFTER:
            raise UnknownYetError
        return None
