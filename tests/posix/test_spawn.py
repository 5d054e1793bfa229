"""Spawning: session, signal state, descriptors, and whose fault a failure is (P2, P11)."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.supervised import CHILDREN
from torc_supervise.posix import spawn as module
from torc_supervise.posix.spawn import MACHINE_FULL, SpawnFailedError, SpawnRefusedError, spawn

pytestmark = pytest.mark.process

CHANGEABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@pytest.fixture
def signals_left_alone() -> Iterator[None]:
    """Undo what a test does to mask and dispositions."""
    handlers = {signum: signal.getsignal(signum) for signum in CHANGEABLE}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for signum, handler in handlers.items():
        if handler is not None:
            signal.signal(signum, handler)


def output_of(*argv: str, environment: Mapping[str, str] | None = None) -> str:
    """Spawn, wait, and return what it wrote to its stdout, which is redirected by a shell."""
    read, write = os.pipe()
    command = f"exec {' '.join(argv)} >/proc/{os.getpid()}/fd/{write}"
    pid = spawn(("/bin/bash", "-c", command), environment or os.environ)
    os.waitpid(pid, 0)
    os.close(write)
    with open(read, encoding="utf-8") as out:
        return out.read()


def signal_sets() -> dict[str, int]:
    """Of a child, without the two signals that the C library keeps for itself and posix_spawn ignores."""
    lines = dict(line.split(":\t") for line in output_of("cat", "/proc/self/status").splitlines())
    private = 1 << 31 | 1 << 32
    return {name: int(lines[name], 16) & ~private for name in ("SigBlk", "SigIgn", "SigCgt")}


def test_the_mask_is_empty_and_all_dispositions_are_default() -> None:
    assert signal_sets() == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@pytest.mark.usefixtures("signals_left_alone")
def test_also_where_the_parent_ignores_or_blocks_everything() -> None:
    for signum in CHANGEABLE:
        if signum != signal.SIGCHLD:  # ignored, it would reap our children for us
            signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, CHANGEABLE)
    assert signal_sets() == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@pytest.mark.usefixtures("signals_left_alone")
def test_control_a_child_of_a_plain_fork_and_exec_inherits_what_is_ignored() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    done = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1


def test_descriptors_that_the_parent_inherited_are_kept_from_children() -> None:
    program = (
        "import os; r, w = os.pipe(); os.set_inheritable(w, True)\n"
        "from torc_supervise.posix import spawn\n"
        "spawn.keep_descriptors_from_children()\n"
        f"pid = spawn.spawn(({sys.executable!r}, {str(CHILDREN / 'descriptors.py')!r}), os.environ)\n"
        "os.waitpid(pid, 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 1 2\n"


def test_control_without_it_an_inheritable_descriptor_is_there() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert str(write) in output_of(sys.executable, str(CHILDREN / "descriptors.py")).split()
    finally:
        os.close(read)
        os.close(write)


def test_the_environment_is_what_was_given() -> None:
    assert output_of("/usr/bin/env", environment={"ONLY": "this one"}).count("ONLY=this one\n") == 1


@pytest.mark.parametrize("number", sorted(MACHINE_FULL))
def test_p11_a_full_machine_is_not_the_jobs_fault(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "posix_spawn", refuse)
    with pytest.raises(SpawnRefusedError) as raised:
        spawn(("/bin/true",), {})
    assert raised.value.errno == number


def test_p11_a_limit_of_processes_is_a_full_machine() -> None:
    """RLIMIT_NPROC binds no root: the helper takes an unprivileged uid of its own first."""
    program = (
        "import os, resource\n"
        "from torc_supervise.posix.spawn import spawn, SpawnRefusedError\n"
        "if os.getuid() == 0: os.setgid(54321); os.setuid(54321)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "try: spawn(('/bin/true',), {})\n"
        "except SpawnRefusedError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == f"{errno.EAGAIN}\n", done.stderr


def test_p11_no_descriptors_left_does_not_keep_a_job_from_starting() -> None:
    """posix_spawn needs none; nothing of ours may need one either."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        pid = spawn(("/bin/true",), {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (
        os.waitpid(pid, 0)[0] == pid
    )  # (the program itself inherited the limit and cannot load its libraries)


def test_p11_not_found(tmp_path: Path) -> None:
    with pytest.raises(SpawnFailedError, match="No such file") as raised:
        spawn((str(tmp_path / "nothing"),), {})
    assert raised.value.errno == errno.ENOENT


def test_p11_not_executable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("#!/bin/sh\n")
    with pytest.raises(SpawnFailedError, match="Permission denied") as raised:
        spawn((str(tmp_path / "file"),), {})
    assert raised.value.errno == errno.EACCES


def test_p11_a_command_line_that_is_too_long_is_said_so() -> None:
    with pytest.raises(SpawnFailedError, match="the command line is too long") as raised:
        spawn(("/bin/true", "x" * (1 << 20)), {})
    assert raised.value.errno == errno.E2BIG


def test_p11_a_nul_byte_is_the_jobs_fault() -> None:
    with pytest.raises(SpawnFailedError, match="null"):
        spawn(("/bin/bash", "-c", "echo \0"), {})
