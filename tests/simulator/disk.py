"""The disk: files with a page cache, faults, slowness, and a power failure.

What write(2) was given is in ``data``; what fsync(2) has confirmed is ``durable``.  A process that is killed loses
nothing of the former; a power failure keeps the latter and, of the rest, as much as chance wants.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType

from simulator.fibers import Hub


@dataclass(eq=False)
class Inode:
    number: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    links: int = 1
    mtime_ns: int = 0


class Disk:
    """Paths to inodes, open descriptors, and what is wrong with it at present."""

    def __init__(self, hub: Hub) -> None:
        self.files: dict[str, Inode] = {}
        self.directories: set[str] = {"/"}
        self.full_until = 0.0
        self.broken_until = 0.0
        self.hung_until = 0.0
        self.latency = 0.0
        self.epoch_ahead = 0.0  # wall clock minus monotonic
        self.reached: Callable[[str], None] = lambda name: None
        self._hub = hub
        self._open: dict[int, tuple[Inode, str]] = {}
        self._next = 10_000
        self._numbers = 1

    # -- faults ---------------------------------------------------------------------------------------------

    def reach(self, name: str) -> None:
        """The disk is asked for something: wait for it; die at it, maybe."""
        hub = self._hub
        self.reached(name)
        hub.enter(name)
        until = hub.now + self.latency * hub.random.random()
        while hub.now < (until := max(until, self.hung_until)):
            hub.me().pause(until, f"the disk ({name})")

    def power_failure(self) -> None:
        for inode in self.files.values():
            rest = inode.data[len(inode.durable) :] if inode.data.startswith(inode.durable) else b""
            inode.data = bytearray(inode.durable + bytes(rest[: self._hub.random.randint(0, len(rest))]))

    def _fault(self, path: str) -> int | None:
        if self._hub.now < self.broken_until:
            return errno.EIO
        return errno.ENOSPC if self._hub.now < self.full_until else None

    # -- descriptors ----------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self.reach("open")
        inode = self.files.get(path)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            if self._hub.now < self.full_until:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            inode = self.create(path)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        if flags & os.O_TRUNC:
            inode.data.clear()
        self._next += 1
        self._open[self._next] = (inode, path)
        return self._next

    def create(self, path: str) -> Inode:
        self._numbers += 1
        inode = Inode(self._numbers)
        self.files[path] = inode
        self.touch(path)
        return inode

    def touch(self, path: str) -> None:
        """A program writes the file anew."""
        inode = self.files.get(path) or self.create(path)
        inode.mtime_ns = int((self._hub.now + self.epoch_ahead) * 1e9)

    def is_open(self, descriptor: int) -> bool:
        return descriptor in self._open

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Where there is no room a part may fit; it is in the file then, and the next try says ENOSPC."""
        inode, path = self._open[descriptor]
        self.reach("write")
        size = len(data)
        problem = self._fault(path)
        if problem is not None:
            part = self._hub.random.choice((0, 0, size // 2, size - 1))
            if problem == errno.ENOSPC and part:
                inode.data += bytes(data[:part])
                return part
            raise OSError(problem, os.strerror(problem), path)
        if (
            size > 1 and self._hub.random.random() < 0.05
        ):  # a signal, a quota, a network file system: a short write
            size = self._hub.random.randrange(1, size)
        half = size // 2
        inode.data += bytes(data[:half])
        self._hub.enter("write, half done")  # a process that is killed meanwhile leaves a torn line
        inode.data += bytes(data[half:size])
        return size

    def fsync(self, descriptor: int) -> None:
        inode, path = self._open.get(descriptor, (None, ""))
        self.reach("fsync")
        if inode is None:
            return  # a directory
        if self._hub.now < self.broken_until:
            raise OSError(errno.EIO, "Input/output error", path)
        inode.durable = bytes(inode.data)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        inode, _ = self._open[descriptor]
        self.reach("pread")
        return bytes(inode.data[offset : offset + size])

    def read(self, descriptor: int, size: int) -> bytes:
        return self.pread(descriptor, size, 0)

    def ftruncate(self, descriptor: int, size: int) -> None:
        inode, path = self._open[descriptor]
        self.reach("ftruncate")
        if self._hub.now < self.broken_until:
            raise OSError(errno.EIO, "Input/output error", path)
        del inode.data[size:]
        inode.durable = inode.durable[:size]

    def fstat(self, descriptor: int) -> SimpleNamespace:
        self.reach("fstat")
        return self._about(self._open[descriptor][0])

    # -- names ----------------------------------------------------------------------------------------------

    def stat(self, path: str) -> SimpleNamespace:
        self.reach("stat")
        if path in self.directories:
            return self._about(None)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self._about(self.files[path])

    def _about(self, inode: Inode | None) -> SimpleNamespace:
        mode = stat.S_IFDIR | 0o755 if inode is None else stat.S_IFREG | 0o600
        return SimpleNamespace(
            st_mode=mode,
            st_uid=os.geteuid(),
            st_gid=os.getegid(),
            st_nlink=inode.links if inode else 2,
            st_size=len(inode.data) if inode else 0,
            st_ino=inode.number if inode else 1,
            st_mtime_ns=inode.mtime_ns if inode else 0,
        )

    def exists(self, path: str) -> bool:
        self.reach("stat")
        return path in self.files or path in self.directories

    def samefile(self, one: str, other: str) -> bool:
        return self.stat(one).st_ino == self.stat(other).st_ino

    def link(self, source: str, target: str) -> None:
        self.reach("link")
        if target in self.files:
            raise FileExistsError(errno.EEXIST, "File exists", target)
        self.files[target] = self.files[source]
        self.files[target].links += 1

    def rename(self, source: str, target: str) -> None:
        self.reach("rename")
        old = self.files.get(target)
        if old is self.files[source]:
            return  # as rename(2): two names of one file stay
        if old is not None:
            old.links -= 1
        self.files[target] = self.files.pop(source)

    def unlink(self, path: str) -> None:
        self.reach("unlink")
        inode = self.files.pop(path, None)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        inode.links -= 1

    def listdir(self, path: str) -> list[str]:
        self.reach("listdir")
        return [name for each in self.files if (name := posixpath.relpath(each, path)) and "/" not in name]


class File:
    """What the builtin ``open`` returns: read, written and closed by whole system calls."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self._disk, self._descriptor = disk, descriptor

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disk.close(self._descriptor)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read().splitlines(keepends=True))

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> bytes:
        return self._disk.pread(self._descriptor, 1 << 30, 0)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._disk.write(self._descriptor, view) :]

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def flush(self) -> None:
        """Nothing is buffered."""
