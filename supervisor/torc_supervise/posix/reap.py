"""Reaper: the one place that waits for processes.

It peeks before it reaps: a leader that exited stays a zombie, and pins its group's number (P3), until the machine
has seen the group empty and orders its collection.  SIGCHLD coalesces, so a sweep asks the kernel about everything
and trusts no count.

How a group is known to be empty: every living member descends from us.  Either its ancestors lead to the living
leader of its job, or they lead to an orphan that was re-parented to us (we are the subreaper).  The kernel re-parents
before the dying process becomes a visible zombie, so *after* a leader was seen dead the list of our own children
shows every stray.  No strays: every group with a dead leader is empty.  Otherwise the strays' trees are walked.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, field

from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.posix import procfs

_PEEK = os.WEXITED | os.WNOWAIT | os.WNOHANG


@dataclass(slots=True)
class Sweep:
    """What one sweep found.

    ``exited``: leaders that are newly dead.  ``members``: for every group whose leader is dead and not collected, its
    living members.  ``helpers``: helper processes that are newly dead, already collected.  ``strangers``: members that
    are not our children, whose death the kernel will not tell us: watch them by pidfd.
    """

    exited: list[tuple[int, Exit]] = field(default_factory=list)
    members: dict[int, list[int]] = field(default_factory=dict)
    helpers: list[tuple[int, Exit]] = field(default_factory=list)
    strangers: set[int] = field(default_factory=set)


class Reaper:
    """Knows all children that were started on purpose; everything else that turns up is an orphan.

    Invariants: ``_alive`` and ``_dead`` are disjoint; a pid in either is a child of ours that was not collected, so
    its number belongs to it.
    """

    def __init__(self, children: Callable[[], list[int]] | None = None) -> None:
        self._alive: set[int] = set()  # leaders not seen dead
        self._dead: set[int] = set()  # leaders that are zombies: their groups may have members
        self._helpers: set[int] = set()
        self._own_children = children or _own_children
        self.orphans_reaped = 0

    def add(self, pid: int) -> None:
        """A leader was spawned."""
        self._alive.add(pid)

    def add_helper(self, pid: int) -> None:
        self._helpers.add(pid)

    def sweep(self) -> Sweep:
        """Ask the kernel about every child.  Collects orphans and helpers; never a leader."""
        found = Sweep()
        if not _anything_dead():
            return found
        for pid in self._alive:
            exit_ = _peek(pid)
            if exit_ is not None:
                found.exited.append((pid, exit_))
        for pid, _ in found.exited:
            self._alive.remove(pid)
            self._dead.add(pid)
        for pid in [pid for pid in self._helpers if _peek(pid) is not None]:
            self._helpers.remove(pid)
            found.helpers.append((pid, _collect(pid)[0]))
        self._look_for_members(found)
        return found

    def look_again(self) -> Sweep:
        """The members of groups whose leader is dead, anew: a member that is not our child has ended."""
        found = Sweep()
        self._look_for_members(found)
        return found

    def escaped(self) -> list[int]:
        """Living orphans that belong to no group of ours, in the order in which they came to us.

        They are children of ours that were not waited for: their numbers belong to them, and a signal hits no stranger.
        """
        found = []
        groups = self._alive | self._dead
        for pid in self._living_strays():
            about = procfs.stat(pid)
            if about is not None and about.pgid not in groups:
                found.append(pid)
        return found

    def collect(self, pid: int) -> Usage | None:
        """Reap a leader's zombie; its group must be empty (P3).  None if it was not there to be collected."""
        self._dead.discard(pid)
        self._alive.discard(pid)
        try:
            return _collect(pid)[1]
        except ChildProcessError:
            return None

    def _look_for_members(self, found: Sweep) -> None:
        """Fill in ``members`` and ``strangers``, collecting dead orphans on the way.  Order matters: see the module."""
        found.members = {pgid: [] for pgid in self._dead}
        for pid in self._living_strays():
            self._walk(pid, found)

    def _living_strays(self) -> list[int]:
        """Children that nobody started on purpose; those that are dead are collected on the way."""
        known = self._alive | self._dead | self._helpers
        living = []
        for pid in self._own_children():
            if pid in known:
                continue
            if _peek(pid) is None:
                living.append(pid)
            else:
                _collect(pid)
                self.orphans_reaped += 1
        return living

    def _walk(self, stray: int, found: Sweep) -> None:
        """Note the living members among a stray and its descendants."""
        todo, seen = [stray], {stray}
        while todo:
            pid = todo.pop()
            about = procfs.stat(pid)
            if about is None:
                continue
            if about.alive and about.pgid in found.members:
                found.members[about.pgid].append(pid)
                if pid != stray:
                    found.strangers.add(pid)
            for child in _children_of(pid):
                if child not in seen:
                    seen.add(child)
                    todo.append(child)


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
    is_bound = usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return exit_, Usage(usage.ru_maxrss * 1024, usage.ru_utime, usage.ru_stime, is_bound)


def _own_children() -> list[int]:
    return _children_of(os.getpid())


def _children_of(pid: int) -> list[int]:
    try:
        return procfs.children(pid)
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [about.pid for about in procfs.everything() if about.ppid == pid]
