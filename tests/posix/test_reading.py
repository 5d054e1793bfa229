"""What is read from /proc and the system: procfs, reap's usage figures, identity, host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from support import waiting
from support.waiting import Fifo
from torc_supervise.posix import host, identity, procfs
from torc_supervise.posix.kernel import RealKernel

pytestmark = pytest.mark.process


@pytest.mark.parametrize("name", ["plain", "with space", "a) Z 1 1", "((", ")) S 0 0 0 (", "new\nline"])
def test_stat_of_a_program_with_an_odd_name(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "1000"])
    try:
        about = procfs.stat(child.pid)
        assert about is not None
        assert (about.pid, about.ppid, about.pgid) == (child.pid, os.getpid(), os.getpgrp())
        assert about.alive
        assert about.start_ticks > 0
    finally:
        child.kill()
        child.wait()
    assert procfs.stat(child.pid) is None


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["/bin/true"])
    waiting.wait_for_end(child.pid)
    about = procfs.stat(child.pid)
    assert about is not None
    assert not about.alive
    assert child.pid in procfs.children(os.getpid())
    child.wait()
    assert child.pid not in procfs.children(os.getpid())


def test_p4_a_process_whose_main_thread_has_ended_is_alive(tmp_path: Path) -> None:
    """It shows as a zombie in /proc while its other threads, perhaps those that save, go on."""
    said = Fifo(tmp_path / "said")
    program = (
        "import ctypes, os, sys, threading, time\n"
        "def other():\n"
        "    me = f'/proc/{os.getpid()}/task/{os.getpid()}/stat'\n"
        "    while open(me).read().rpartition(')')[2].split()[0] != 'Z': os.sched_yield()\n"
        "    open(sys.argv[1], 'w').write('main thread ended\\n')\n"
        "    time.sleep(1000)\n"
        "threading.Thread(target=other).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "said")])
    try:
        said.expect(starting_with="main thread ended", unless_gone=child.pid)
        about = procfs.stat(child.pid)
        assert about is not None
        assert (about.state, about.alive) == ("Z", True)
    finally:
        child.kill()
        child.wait()
        said.close()


def test_children_in_order_of_birth() -> None:
    started = [subprocess.Popen(["/bin/sleep", "1000"]) for _ in range(3)]
    try:
        assert procfs.children(os.getpid())[-3:] == [child.pid for child in started]
    finally:
        for child in started:
            child.kill()
            child.wait()


def test_everything_holds_this_process() -> None:
    assert os.getpid() in {about.pid for about in procfs.everything()}


def test_usage_of_a_job_counts_the_children_that_it_waited_for() -> None:
    kernel = RealKernel()
    # How much computing counts as some is up to the kernel: it may tell by where its clock's ticks hit.
    eat = "import os; x = bytearray(80 << 20)\nwhile not os.times().user: pass"
    pid = kernel.spawn(("/bin/bash", "-c", f'{sys.executable} -c "{eat}"; true'), os.environ)
    waiting.wait_for_end(pid)
    kernel.sweep()
    usage = kernel.collect(pid)
    assert usage is not None
    assert usage.max_rss_bytes > 80 << 20
    assert usage.user_cpu_seconds > 0
    assert usage.system_cpu_seconds >= 0


def test_identity_of_this_process_is_alive() -> None:
    me = identity.own_identity()
    assert me.pid == os.getpid()
    assert identity.may_be_alive(me)


def test_identity_tells_a_reused_number_apart() -> None:
    me = identity.own_identity()
    assert not identity.may_be_alive(replace(me, start_ticks=me.start_ticks - 1))
    assert not identity.may_be_alive(replace(me, boot_id="another boot"))
    assert identity.may_be_alive(replace(me, host="elsewhere", start_ticks=1)), "in doubt it is alive"


def test_identity_in_another_pid_namespace_is_alive_in_doubt() -> None:
    """Control: in this one, and where nobody has noted it, the number is looked up."""
    me = identity.own_identity()
    gone = replace(me, start_ticks=me.start_ticks - 1)
    assert identity.may_be_alive(replace(gone, pid_namespace=1))
    assert not identity.may_be_alive(gone)
    assert not identity.may_be_alive(replace(gone, pid_namespace=None))
    assert not identity.may_be_alive(replace(gone, pid_namespace=1, boot_id="another boot"))


def test_identity_of_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["/bin/true"])
    who = identity.identity_of(child.pid)
    waiting.wait_for_end(child.pid)
    assert not identity.may_be_alive(who)
    child.wait()


def test_host_figures() -> None:
    assert host.name() == os.uname().nodename
    assert host.num_cpus() == len(os.sched_getaffinity(0))
    assert 0 < host.memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("0,1", ["0", "1"]),
        ("3", ["3"]),
        ("GPU-5f, GPU-6e", ["GPU-5f", "GPU-6e"]),
        ("MIG-1/2/3", ["MIG-1/2/3"]),
        ("", []),
        ("NoDevFiles", []),
        ("-1", []),
    ],
)
def test_gpus_are_those_that_are_visible(visible: str, names: list[str]) -> None:
    assert host.gpu_names({"CUDA_VISIBLE_DEVICES": visible}) == names
