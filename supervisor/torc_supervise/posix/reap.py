"""Reaper: the one place that waits for processes.

It peeks before it reaps: a leader that exited stays a zombie, and pins its group's number (P3), until the machine
has seen the group empty and orders its collection.  SIGCHLD coalesces, so a sweep asks the kernel about everything
and trusts no count.

How a group is known to be empty: every living member descends from us.  Either its ancestors lead to the living
leader of its job, or they lead to an orphan that was re-parented to us (we are the subreaper).  The kernel re-parents
before the dying process becomes a visible zombie, so *after* a leader was seen dead the list of our own children
shows every stray.  No strays: every group with a dead leader is empty.  Otherwise the strays' trees are walked.

What has left its job's group is a member all the same: ``lineage`` tells whose it is.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field

from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.posix import procfs
from torc_supervise.posix.cgroups import JobCgroup
from torc_supervise.posix.lineage import Lineage, UnknownYetError
from torc_supervise.posix.marks import Mark
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.spawn import MACHINE_FULL
from torc_supervise.posix.subreaper import is_subreaper
from torc_supervise.posix.wakeup import TERMINATION_SIGNALS

LOOK_AGAIN_AFTER = 0.05
"""Seconds until the next look where none could be taken, or where nobody will tell us that a member has ended."""

MOST_LOOKS = 100
"""Looks at /proc in a row, while orphans come and die, before something else has its turn (P8)."""

_PEEK = os.WEXITED | os.WNOWAIT | os.WNOHANG


class Sweep(Struct):
    """What one sweep found.

    ``exited``: leaders that are newly dead, and how they ended (None: see ``posix.steps``).  ``members``: for every
    group whose leader is dead and not collected, its living members, those that have left the group included;
    ``escaped`` are these.  ``helpers``: helper processes that are newly dead, already collected.  ``strangers``:
    members that are not our children, whose death the kernel will not tell us: watch them by pidfd.
    """

    exited: list[tuple[int, Exit | None]] = []
    members: dict[int, list[int]] = {}
    helpers: list[tuple[int, Exit]] = []
    strangers: set[int] = field(default_factory=set)
    escaped: dict[int, list[int]] = {}

    def num_escaped(self, leader: int) -> int:
        return len(self.escaped.get(leader, ()))

    @property
    def was_hit(self) -> bool:
        """Has a leader died of a signal that asks the supervisor to end?"""
        return any(isinstance(end, Signaled) and end.signum in TERMINATION_SIGNALS for _, end in self.exited)


class NotNowError(Exception):
    """/proc cannot be looked at (EMFILE, ENFILE, ENOMEM: P11), never holds still, or does not tell yet whose a process
    is.  Ask again soon."""


class Reaper:
    """Knows all children that were started on purpose, and leaves those alone that were there before it.

    Of the rest, what may descend from a job is an orphan.  A process with our own session does not: every job has a
    session of its own, and nobody can join another one.  Nor does what was there, below a child of ours, before the
    first job: ``sleep 1000 & exec torc-supervise run`` in a batch script makes us the parent of a stranger.  (What that
    stranger starts later, in a session of its own, and abandons, lacks our mark: nothing without it is touched then.)

    Invariants: ``_alive`` and ``_dead`` are disjoint; a pid in either is a child of ours that was not collected, so
    its number belongs to it.
    """

    def __init__(self, children: Callable[[], list[int]] | None = None) -> None:
        self._alive: set[int] = set()  # leaders not seen dead
        self._dead: set[int] = set()  # leaders that are zombies: their groups may have members
        self._helpers: set[int] = set()
        self._own_children = children or _own_children
        self.orphans_reaped = 0
        self._not_ours = frozenset(self._own_children())  # never waited for: somebody else may want to
        self._before_us = _started(self._not_ours)  # they and their descendants: pid -> start in clock ticks
        self._session = os.getsid(0)
        self._cgroups: dict[int, JobCgroup] = {}  # leader -> where its processes are
        self._subreaper = is_subreaper()
        self._lineage = Lineage(strangers=bool(self._before_us))

    def add(
        self, pid: int, mark: Mark | None = None, since: int = 0, cgroup: JobCgroup | None = None
    ) -> None:
        """A leader was spawned.

        Args:
            mark: what its processes carry, None if they carry none.
            since: clock ticks since boot, no later than its start.
            cgroup: that it moves to, if it has one of its own.
        """
        self._alive.add(pid)
        self._lineage.add(pid, mark, since, cgroup.path if cgroup is not None else None)
        if cgroup is not None:
            self._cgroups[pid] = cgroup

    def add_helper(self, pid: int) -> None:
        self._helpers.add(pid)

    def sweep(self) -> Sweep:
        """Ask the kernel about every child.  Collects orphans and helpers; never a leader.

        Raises:
            NotNowError: nothing was reported and no leader was forgotten.
        """
        found = Sweep()
        if not _anything_dead():
            return found
        for pid in self._alive:
            exit_ = _peek(pid)
            if exit_ is not None:
                found.exited.append((pid, exit_))
        newly_dead = {pid for pid, _ in found.exited}
        self._look_for_members(found, self._dead | newly_dead)
        self._alive -= newly_dead
        self._dead |= newly_dead
        for pid in [pid for pid in self._helpers if _peek(pid) is not None]:
            self._helpers.remove(pid)
            found.helpers.append((pid, _collect(pid)[0]))
        return found

    def look_again(self) -> Sweep:
        """The members of groups whose leader is dead, anew: a member that is not our child has ended."""
        found = Sweep()
        self._look_for_members(found, self._dead)
        return found

    def escaped(self) -> list[int]:
        """Living orphans that belong to no job that is under way, in the order in which they came to us.

        They are children of ours that were not waited for, and came from jobs: their numbers belong to them, and a
        signal hits no stranger.
        """
        groups = self._alive | self._dead
        with _looking():
            found = [
                about
                for tree in self._strays()
                for about, owner in self._lineage.sort(tree[:1], groups, self._alive)
                if owner is None and about.alive and self._lineage.is_ours(about)
            ]
        return [about.pid for about in found]

    def outside(
        self, leaders: Collection[int], asked: Mapping[int, int]
    ) -> Iterator[tuple[ProcessStat, int | None, int]]:
        """Living processes of these jobs that are not in their groups.

        A leader that was started without a mark stands for something else (a job step on another node): as long as it
        lives, what it has started is its own business.

        Args:
            asked: leader -> the last signal that its group was sent, for all jobs that were sent any.

        Yields:
            what it is, its job's leader, and the signal that it is to get; None for the leader of what several jobs may
            have started, which is signalled when all of them were.

        Raises:
            NotNowError: see :meth:`sweep`.
        """
        groups = self._alive | self._dead
        marked = [leader for leader in leaders if leader in self._alive and self._lineage.is_marked(leader)]
        with _looking():
            for tree in [*self._strays(), *(_tree(leader) for leader in marked)]:
                for about, owner in self._lineage.sort(tree, groups, self._alive):
                    if about.pgid in groups or not about.alive:
                        continue
                    if owner is None and (signum := self._lineage.signal_for(about, asked)) is not None:
                        yield about, None, signum
                    elif owner is not None and owner in leaders and owner in asked:
                        yield about, owner, asked[owner]

    def kill_cgroup(self, leader: int) -> None:
        """SIGKILL to all of a job that has a cgroup of its own, also to what forks meanwhile."""
        cgroup = self._cgroups.get(leader)
        if cgroup is not None:
            cgroup.kill()

    def collect(self, pid: int) -> Usage | None:
        """Reap a leader's zombie; its group must be empty (P3).  None if it was not there to be collected."""
        self._dead.discard(pid)
        self._alive.discard(pid)
        self._lineage.forget(pid)
        self._cgroups.pop(pid, None)
        try:
            return _collect(pid)[1]
        except ChildProcessError:
            return None

    def _look_for_members(self, found: Sweep, leaders: set[int]) -> None:
        """Fill in the members, collecting dead orphans on the way.  Order matters: see the module."""
        found.members = {pgid: [] for pgid in leaders}
        groups, alive = self._alive | self._dead, self._alive - leaders
        with _looking():
            for tree in self._strays():
                for about, owner in self._lineage.sort(tree, groups, alive):
                    if owner not in found.members or not about.alive:
                        continue
                    found.members[owner].append(about.pid)
                    if about is not tree[0]:
                        found.strangers.add(about.pid)
                    if about.pgid != owner:
                        found.escaped.setdefault(owner, []).append(about.pid)
            if not self._subreaper:
                for leader in [pgid for pgid, members in found.members.items() if not members]:
                    self._look_into_cgroup(found, leader)

    def _look_into_cgroup(self, found: Sweep, leader: int) -> None:
        """Of a job that seems to be empty: its orphans have not come to us."""
        cgroup = self._cgroups.get(leader)
        for pid in cgroup.processes() if cgroup is not None else ():
            about = procfs.stat(pid)
            if about is None or not about.alive:
                continue
            found.members[leader].append(pid)
            found.strangers.add(pid)
            if about.pgid != leader:
                found.escaped.setdefault(leader, []).append(pid)

    def _strays(self) -> list[list[ProcessStat]]:
        """Living children that came from jobs, each with its descendants; those that are dead are collected.

        To be called while :func:`_looking`.

        Race: a process dies after the list of our children was read and before it was looked at itself.  Its children
        are ours by then, and were seen in neither place.  So the list is read again, until nobody is new in it.
        Test: test_reap.py::test_p4_children_of_an_orphan_that_dies_while_we_look_are_seen.
        """
        for _ in range(MOST_LOOKS):
            listed = self._own_children()
            collected, living = self._sort_out(listed)
            trees = [tree for pid in living if (tree := _tree(pid))]
            nobody = not (collected or living)
            if nobody or set(self._own_children()) <= set(listed) - collected:
                self._lineage.keep_only(tree[0] for tree in trees)
                return trees
        raise NotNowError

    def _sort_out(self, children: list[int]) -> tuple[set[int], list[int]]:
        """Of our children those that were dead orphans, collected now, and those that live and came from jobs."""
        known = self._alive | self._dead | self._helpers
        collected, living = set(), []
        for pid in children:
            about = procfs.stat(pid) if pid not in known else None
            if about is None:
                continue
            was_there = self._before_us.get(pid) == about.start_ticks
            if was_there and pid in self._not_ours:
                continue
            if _peek(pid) is not None:
                _collect(pid)
                collected.add(pid)
                self.orphans_reaped += 1
            elif not was_there and about.sid != self._session:
                living.append(pid)
        return collected, living


class _OwnPeak:
    """The most memory that we had ourselves, KiB: it only grows, and asking for it is as dear as collecting a child."""

    def __init__(self) -> None:
        self._known = 0

    def covers(self, peak: int) -> bool:
        """Whether a child's peak may be ours: until its exec it has our memory (getrusage(2))."""
        if peak > self._known:
            self._known = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak <= self._known


_own_peak = _OwnPeak()


def _anything_dead() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, _PEEK) is not None
    except ChildProcessError:
        return False


def _peek(pid: int) -> Exit | None:
    """How ``pid`` ended, leaving the zombie in place; None while it lives.  Sees only children of ours."""
    try:
        info = os.waitid(os.P_PID, pid, _PEEK)
    except ChildProcessError:
        return None
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return Exited(info.si_status)
    return Signaled(info.si_status, info.si_code == os.CLD_DUMPED)


def _collect(pid: int) -> tuple[Exit, Usage]:
    _, status, usage = os.wait4(pid, 0)
    exit_: Exit
    if os.WIFSIGNALED(status):
        exit_ = Signaled(os.WTERMSIG(status), os.WCOREDUMP(status))
    else:
        exit_ = Exited(os.WEXITSTATUS(status))
    return exit_, Usage(
        usage.ru_maxrss * 1024, usage.ru_utime, usage.ru_stime, _own_peak.covers(usage.ru_maxrss)
    )


def collect_own(pid: int) -> Exit:
    """Wait for a child of a helper, which has no reaper: the keeper's commands.  Its pidfd has said that it is dead."""
    return _collect(pid)[0]


@contextlib.contextmanager
def _looking() -> Iterator[None]:
    """Tell "nobody is there" from "nobody can look"."""
    try:
        yield
    except UnknownYetError as error:
        raise NotNowError from error
    except OSError as error:
        if error.errno in MACHINE_FULL:
            raise NotNowError from error
        raise


def _tree(root: int) -> list[ProcessStat]:
    return procfs.tree(root, _children_of)


def _started(roots: Iterable[int]) -> dict[int, int]:
    return {about.pid: about.start_ticks for root in roots for about in _tree(root)}


def _own_children() -> list[int]:
    return _children_of(os.getpid())


def _children_of(pid: int) -> list[int]:
    try:
        return procfs.children(pid)
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [about.pid for about in procfs.everything() if about.ppid == pid]
