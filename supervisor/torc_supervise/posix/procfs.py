"""/proc: who is whose child, and in which group.

Only files that never wait for another process are read: ``stat`` and ``children``.  ``cmdline`` and ``environ`` are
not, because they take the memory-map lock of a process that may be stuck in the kernel (see ``marks``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from msgspec import Struct

DEAD_STATES = "ZXx"

_READ_AT_A_TIME = 1 << 14  # bytes


class ProcessStat(Struct, frozen=True):
    """What /proc/PID/stat says (proc_pid_stat(5)).  ``start_ticks`` are clock ticks since boot.

    ``threads``: a process whose main thread has ended shows as a zombie while its other threads go on.
    ``environment_end``: address; 0 while it calls exec, in kernel threads, and where it is not for us to see.
    """

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    start_ticks: int
    threads: int = 1
    environment_end: int = 0

    @property
    def alive(self) -> bool:
        return self.state not in DEAD_STATES or self.threads > 1


def contents(path: str) -> bytes:
    """What a small file of the kernel says: three or four system calls, where Python's own files take eleven.

    Raises:
        OSError: as open(2) and read(2) say.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, _READ_AT_A_TIME):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def line(path: str) -> bytes:
    """What a file of the kernel says that is shorter than a page and made in one piece: it is read in one go.

    Raises:
        OSError: as open(2) and read(2) say.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _READ_AT_A_TIME)
    finally:
        os.close(descriptor)


def stat(pid: int) -> ProcessStat | None:
    """None where there is no such process (any more)."""
    try:
        text = line(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, parentheses included: cut at the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    state, ppid, pgid, sid = fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3])
    environment_end = int(fields[48]) if len(fields) > 48 else 0
    return ProcessStat(pid, state, ppid, pgid, sid, int(fields[19]), int(fields[17]), environment_end)


def is_of_our_user(pid: int) -> bool:
    """Whether it may be one of ours: root's jobs may have changed their user."""
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Pids of the children of all threads of ``pid``, zombies included; empty if it is gone.

    For the caller's own children the list is complete, because only the caller takes zombies off it.  For another
    process it may miss some while they come and go (proc_pid_task_tid_children(5)): ask again when one of them ends.

    Raises:
        FileNotFoundError: the kernel was built without CONFIG_PROC_CHILDREN; see :func:`children_by_scan`.
    """
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for tid in threads:
        try:
            found += map(int, contents(f"/proc/{pid}/task/{tid}/children").split())
        except ProcessLookupError:
            continue  # the thread ended
        except FileNotFoundError:
            if not has_children_files():
                raise
    return found


def name_self(name: str) -> None:
    """What ``top`` and ``ps -o comm`` show for this process; 15 bytes of it."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        return  # only a name


def has_children_files() -> bool:
    """Was the kernel built with CONFIG_PROC_CHILDREN (CHECKPOINT_RESTORE)?"""
    return os.path.exists("/proc/thread-self/children")


def everything() -> Iterator[ProcessStat]:
    """All processes that are visible here: slow, for use outside the parent or where nothing else works."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(int(name))) is not None:
            yield found


def tree(root: int, children_of: Callable[[int], list[int]]) -> list[ProcessStat]:
    """A process and its descendants, as far as they were there when it was their turn; parents before their children.

    Empty if it was not there itself.
    """
    found, todo, seen = [], [root], {root}
    while todo:
        pid = todo.pop()
        about = stat(pid)
        if about is None:
            continue
        found.append(about)
        for child in children_of(pid):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    return found


def boot_id() -> str | None:
    """Identifies this boot of this machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def pid_namespace() -> int | None:
    """Inode of the PID namespace of the processes that /proc shows here; None where it does not say."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
