"""Seams: the names by which modules of the program know the outside world, and what a simulated machine puts there.

No code under test is changed for it: system calls are made in few places, and each goes through a name of its module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from simulator.machine import Machine
from simulator.stand_ins import (
    BOOT_OFFSET,
    open_function,
    os_module,
    queue_module,
    select_module,
    selectors_module,
    threading_module,
    time_module,
)
from torc_supervise import launch, loop
from torc_supervise.helpers import (
    alone,
    hunt,
    inspector,
    keeper,
    kin,
    last_resort,
    last_will,
    link,
    outside,
    speaker,
    strays,
    writer,
)
from torc_supervise.operations import liveness, opened, run
from torc_supervise.posix import clock, groups, identity, marks, threads
from torc_supervise.store import journal, lock, requests, snapshot


class NoControlSocket:
    """In place of ``helpers.control.ControlSocket``."""

    path = "/control"

    def __init__(self, selector: object, answer: object, directory: str) -> None: ...

    def close(self) -> None: ...


def _nothing(*arguments: Any, **more: Any) -> None:
    """In place of what has no meaning here."""


@contextlib.contextmanager
def installed(machine: Machine, *more: tuple[Any, Any, Any]) -> Iterator[None]:
    """Put a machine in place of the real one.

    Args:
        more: further (module, class or dictionary; name or key; value), the dictionaries being tables of the program.
    """
    before: list[tuple[Any, Any, Any]] = []
    try:
        for owner, name, value in [*_replacements(machine), *more]:
            names = owner if isinstance(owner, dict) else vars(owner)
            before.append((owner, name, names.get(name, _MISSING)))
            _put(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            _put(owner, name, value)


_MISSING = object()


def _put(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, dict):
        if value is _MISSING:
            del owner[name]
        else:
            owner[name] = value
    elif value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    hub, kernel = machine.hub, machine.kernel
    fake_os, fake_time, fake_open = os_module(machine), time_module(machine), open_function(machine)
    threading, queue, select = threading_module(hub), queue_module(hub), select_module(machine)
    selectors = selectors_module(machine)
    for module in (
        *(alone, hunt, inspector, keeper, kin, last_resort, last_will, launch, link, loop, opened, requests),
        *(groups, identity, journal, liveness, lock, run, snapshot, speaker, strays, writer),
    ):
        yield module, "os", fake_os
    for module in (alone, clock, hunt, keeper, kin, last_resort, last_will, link, run, threads):
        yield module, "time", fake_time
    for module in (inspector, keeper, last_resort, outside, speaker, threads, writer):
        yield module, "threading", threading
    for module in (lock, journal, snapshot, requests):
        yield module, "open", fake_open
    for module in (inspector, speaker):
        yield module, "queue", queue
    for module in (alone, hunt, last_will, strays):
        yield module, "select", select
    for module in (loop, keeper):
        yield module, "selectors", selectors
    procfs = SimpleNamespace(
        stat=kernel.stat,
        everything=kernel.everything,
        boot_id=lambda: machine.boot_id,
        pid_namespace=lambda: 1,
        is_of_our_user=lambda pid: kernel.stat(pid) is not None,
    )
    for module in (groups, hunt, identity, kin, marks, strays):
        yield module, "procfs", procfs
    for module in (kin, strays):
        yield (
            module,
            "marks",
            SimpleNamespace(environment_block=kernel.environment_block, parse=marks.parse, Mark=marks.Mark),
        )
    yield hunt, "marks", SimpleNamespace(read_environment=kernel.read_environment, NONCE=marks.NONCE)
    yield groups, "signal", SimpleNamespace(pidfd_send_signal=kernel.pidfd_send_signal)
    yield keeper, "ControlSocket", NoControlSocket
    yield link, "control", SimpleNamespace(new_directory=lambda: "/control", remove=_nothing)
    yield link, "socket", SimpleNamespace(socketpair=machine.net.socketpair, socket=object)
    yield link, "fork_helper", machine.fork_helper
    yield link, "keeper", SimpleNamespace(main=_copying(machine, keeper.main))
    yield opened, "trust", SimpleNamespace(check=_nothing)
    yield clock, "boot_offset", lambda: BOOT_OFFSET
    yield from _of_run(machine)


def _of_run(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    yield run, "find_bash", lambda: "/bin/bash"
    yield run, "prepare_process", _nothing
    yield run, "RealKernel", lambda: machine.kernel
    yield run, "gc", SimpleNamespace(collect=_nothing, freeze=_nothing)
    yield run, "cgroups", SimpleNamespace(make=_nothing)
    yield run, "memory", SimpleNamespace(jobs_oom_score_adj=_nothing)
    yield run, "procfs", SimpleNamespace(boot_id=lambda: machine.boot_id)
    yield run, "Wakeup", machine.make_wakeup
    yield run, "follow_up", lambda *arguments, **more: []


def _copying(machine: Machine, main: Callable[..., None]) -> Callable[..., None]:
    return lambda setup, end: main(machine.copied(setup), end)
