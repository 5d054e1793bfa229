"""Stand-ins for modules of the standard library, as far as the program uses them."""

from __future__ import annotations

import errno
import os
import posixpath
import queue
import select
import selectors
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from simulator.disk import File
from simulator.fibers import NEVER, Fiber, Hub
from simulator.sockets import Selector, Socket

if TYPE_CHECKING:
    from simulator.machine import Machine

BOOT_OFFSET = 500.0  # CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds


def time_module(machine: Machine) -> SimpleNamespace:
    hub = machine.hub
    return SimpleNamespace(
        monotonic=lambda: hub.now,
        time=lambda: hub.now + machine.disk.epoch_ahead,
        clock_gettime=lambda clock: hub.now + BOOT_OFFSET,
        clock_gettime_ns=lambda clock: int((hub.now + BOOT_OFFSET) * 1e9),
        CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
    )


class Waiting:
    """Fibers that wait for something."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._fibers: list[Fiber] = []

    def pause(self, timeout: float | None, what: str) -> None:
        fiber = self._hub.me()
        self._fibers.append(fiber)
        try:
            fiber.pause(NEVER if timeout is None else self._hub.now + timeout, what)
        finally:
            self._fibers.remove(fiber)

    def wake(self) -> None:
        for fiber in self._fibers:
            fiber.wake(self._hub.random.choice((0.0, 0.0, 0.0005, 0.01)))


def threading_module(hub: Hub) -> SimpleNamespace:
    """Only one fiber runs at a time, and none pauses while it holds one of our locks: they are empty."""

    class Lock:
        def __enter__(self) -> None:
            hub.enter("lock")

        def __exit__(self, *error: object) -> None: ...

    class Condition(Lock):
        def __init__(self) -> None:
            self._waiting = Waiting(hub)
            self._notified = 0

        def wait(self, timeout: float | None = None) -> bool:
            before = self._notified
            self._waiting.pause(timeout, "a condition")
            return self._notified > before

        def notify(self) -> None:
            self._notified += 1
            self._waiting.wake()

    class Event:
        def __init__(self) -> None:
            self._waiting = Waiting(hub)
            self._set = False

        def is_set(self) -> bool:
            return self._set

        def set(self) -> None:
            self._set = True
            self._waiting.wake()

        def clear(self) -> None:
            self._set = False

        def wait(self, timeout: float | None = None) -> bool:
            until = NEVER if timeout is None else hub.now + timeout
            while not self._set and hub.now < until:
                self._waiting.pause(until - hub.now, "an event")
            return self._set

    class Thread:
        def __init__(
            self,
            target: Callable[..., None],
            args: tuple[Any, ...] = (),
            name: str = "",
            daemon: bool = False,
        ) -> None:
            self._target, self._args, self._name = target, args, name
            self._fiber: Fiber | None = None

        def start(self) -> None:
            proc = hub.enter("clone")
            self._fiber = hub.start_fiber(proc, self._name, lambda: self._target(*self._args))

        def join(self, timeout: float | None = None) -> None:
            assert self._fiber is not None
            until = NEVER if timeout is None else hub.now + timeout
            while not self._fiber.over and hub.now < until:
                self._fiber.joiners.append(hub.me())
                hub.me().pause(until, f"the thread {self._name}")

    return SimpleNamespace(Lock=Lock, Condition=Condition, Event=Event, Thread=Thread)


def queue_module(hub: Hub) -> SimpleNamespace:
    class SimpleQueue:
        def __class_getitem__(cls, item: object) -> type:
            return cls

        def __init__(self) -> None:
            self._items: list[Any] = []
            self._waiting = Waiting(hub)

        def put(self, item: Any) -> None:
            self._items.append(item)
            self._waiting.wake()

        def get(self, timeout: float | None = None) -> Any:
            until = NEVER if timeout is None else hub.now + timeout
            while not self._items:
                if hub.now >= until:
                    raise queue.Empty
                self._waiting.pause(until - hub.now, "a queue")
            return self._items.pop(0)

    return SimpleNamespace(SimpleQueue=SimpleQueue, Empty=queue.Empty)


def selectors_module(machine: Machine) -> SimpleNamespace:
    return SimpleNamespace(
        DefaultSelector=lambda: Selector(machine.net),
        EVENT_READ=selectors.EVENT_READ,
        EVENT_WRITE=selectors.EVENT_WRITE,
        BaseSelector=selectors.BaseSelector,
    )


def select_module(machine: Machine) -> SimpleNamespace:
    """poll(2) on pidfds, and on sockets for the end of the peer alone."""

    class Poll:
        def __init__(self) -> None:
            self._descriptors: list[int] = []

        def register(self, thing: int | Socket, mask: int = 0) -> None:
            self._descriptors.append(thing if isinstance(thing, int) else thing.fileno())

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            hub = machine.hub
            hub.enter("poll")
            until = hub.now + milliseconds / 1000
            while not (ready := self._ready()) and hub.now < until:
                machine.kernel.deaths.pause(until - hub.now, "poll")
            if not ready:
                return []
            hub.me().pause(hub.now + 0.0001, "a look")
            return [(descriptor, select.POLLIN | select.POLLRDHUP) for descriptor in ready]

        def _ready(self) -> list[int]:
            return [each for each in self._descriptors if is_ready(machine.net.descriptors.things[each])]

    def is_ready(thing: Any) -> bool:
        return thing.ended if isinstance(thing, Socket) else thing.readable

    names = ("POLLIN", "POLLOUT", "POLLHUP", "POLLRDHUP", "POLLERR")
    return SimpleNamespace(poll=Poll, **{name: getattr(select, name) for name in names})


def os_module(machine: Machine) -> SimpleNamespace:
    """``os`` as the modules of the program see it: our disk, our processes; names and constants are the real ones."""
    hub, disk, kernel = machine.hub, machine.disk, machine.kernel

    def write(descriptor: int, data: bytes | memoryview) -> int:
        if descriptor == 2:
            machine.printed.append((hub.now, bytes(data)))
            return len(data)
        return disk.write(descriptor, data)

    def close(descriptor: int) -> None:
        if disk.is_open(descriptor):
            disk.close(descriptor)
        else:
            kernel.release_watch(descriptor)

    def leave(code: int) -> None:
        proc = hub.enter("exit")
        proc.exit_code = code
        hub.bury(proc)
        hub.enter("nothing any more")

    def listdir(path: str) -> list[str]:
        if path != "/proc":
            return disk.listdir(path)
        if machine.hub.now < kernel.blind_until:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return [str(pid) for pid in kernel.pids()]

    def stat(path: str) -> SimpleNamespace:
        return SimpleNamespace(st_uid=os.geteuid()) if path.startswith("/proc/") else disk.stat(path)

    path = SimpleNamespace(
        exists=disk.exists,
        samefile=disk.samefile,
        join=posixpath.join,
        dirname=posixpath.dirname,
        basename=posixpath.basename,
        split=posixpath.split,
    )
    names = ("open", "fsync", "pread", "read", "ftruncate", "fstat", "link", "rename", "unlink")
    constants = {name: getattr(os, name) for name in dir(os) if name.startswith("O_") or name.endswith("_OK")}
    return SimpleNamespace(
        **constants,
        **{name: getattr(disk, name) for name in names},
        write=write,
        close=close,
        listdir=listdir,
        stat=stat,
        lstat=stat,
        path=path,
        _exit=leave,
        kill=kernel.kill,
        pidfd_open=kernel.pidfd_open,
        getpid=lambda: hub.me().proc.pid,
        getcwd=lambda: "/home",
        environ={"HOME": "/home"},
        uname=os.uname,
        devnull=os.devnull,
        access=lambda path, mode: True,
        dup2=lambda old, new: new,
        geteuid=os.geteuid,
        getegid=os.getegid,
        getgroups=list,
        strerror=os.strerror,
        sysconf=os.sysconf,
        urandom=hub.tokens.randbytes,
        fsencode=os.fsencode,
        fsdecode=os.fsdecode,
    )


def open_function(machine: Machine) -> Callable[..., Any]:
    """The builtin: files of the disk."""

    def fake_open(path: str | int, mode: str = "r", **more: Any) -> Any:
        if isinstance(path, int):
            return File(machine.disk, path)
        flags = {"rb": os.O_RDONLY, "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL}[mode]
        return File(machine.disk, machine.disk.open(path, flags))

    return fake_open
