"""Calls that have one home each, and calls that have none."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from support.sources import calls, files, imports, name, tree, uses

PROGRAM = files("supervisor", "cli")
EVERYTHING = files("supervisor", "cli", "tests", "scripts", "benchmarks")

WAITING = {"os.waitpid", "os.waitid", "os.wait", "os.wait3", "os.wait4", "os.waitstatus_to_exitcode"}
LEADER = "supervisor/torc_supervise/helpers/step_leader.py"  # a program of its own, with one child: srun
NAMESPACE = {  # a program of its own, too: its children are PID 1 of a namespace, and all that this one takes in
    "supervisor/torc_supervise/helpers/namespace/leader.py",
    "supervisor/torc_supervise/helpers/namespace/inside.py",
}
REAPERS = {"supervisor/torc_supervise/posix/reap.py", LEADER, *NAMESPACE}

SIGNALLING = {"os.kill", "os.killpg", "signal.pidfd_send_signal"}
SIGNALLERS = {
    "supervisor/torc_supervise/posix/groups.py",
    # SIGCONT to the keeper, which is a helper of ours and no job: somebody may have stopped it.
    "supervisor/torc_supervise/helpers/link.py",
    LEADER,  # srun, and itself, to end as its job has ended
    *NAMESPACE,  # what is inside, and itself
}

WALL_CLOCK = {
    "time.time",
    "time.time_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "datetime.datetime.now",
}
CLOCKS = {
    "supervisor/torc_supervise/posix/clock.py",
    # All of these compare with modification times, which are wall times: how old a file is, or whether a checkpoint
    # was replaced after the signal.  No deadline depends on them.
    "supervisor/torc_supervise/helpers/link.py",
    "supervisor/torc_supervise/operations/lookup.py",
}

# Of multiprocessing.Process: it would reap our children behind our back, or lie about them.
PROCESS_LIFE = {"is_alive", "exitcode", "active_children", "sentinel"}

JOINERS = {
    "supervisor/torc_supervise/helpers/writer.py",  # a thread, in the keeper
    "supervisor/torc_supervise/helpers/keeper.py",  # its writer
}

SLEEPS = {"time.sleep", "asyncio.sleep"}


def places(banned: set[str], roots: Iterable[Path] = PROGRAM, homes: Iterable[str] = ()) -> list[str]:
    """Where one of these names is looked up, outside of its homes."""
    return [
        f"{name(path)}:{line}: {used}"
        for path in roots
        if name(path) not in homes
        for line, used in uses(path)
        if used in banned
    ]


def test_p3_one_module_alone_waits_for_processes() -> None:
    assert places(WAITING, homes=REAPERS) == []


def test_p2_signals_to_jobs_go_out_in_one_place() -> None:
    assert places(SIGNALLING, homes=SIGNALLERS) == []


def test_p13_wall_time_is_asked_for_in_one_place() -> None:
    assert places(WALL_CLOCK, homes=CLOCKS) == []


def test_nothing_asks_multiprocessing_about_processes() -> None:
    asked = [
        f"{name(path)}:{line}: {used}"
        for path in PROGRAM
        for line, used in uses(path)
        if "." in used and used.rsplit(".", 1)[-1] in PROCESS_LIFE
    ]
    assert asked == []


def test_nothing_joins_a_process_or_a_thread() -> None:
    """``"".join(x)`` has an argument; a join that waits has none, or a timeout."""
    waiting = [
        f"{name(path)}:{call.lineno}"
        for path in PROGRAM
        if name(path) not in JOINERS
        for call, called in calls(path)
        if called.endswith(".join") and (not call.args or call.keywords)
    ]
    assert waiting == []


def test_no_code_runs_between_fork_and_exec() -> None:
    assert not [
        path
        for path in PROGRAM
        for call, _ in calls(path)
        if any(k.arg == "preexec_fn" for k in call.keywords)
    ]


# Slurm's own programs (sbatch, squeue, scancel) are run before or after the jobs, never beside them.
MAY_RUN_PROGRAMS = "supervisor/torc_supervise/slurm/"


def test_subprocess_is_not_used() -> None:
    """Its Popen reaps, and its __del__ reaps again."""
    others = [path for path in PROGRAM if not name(path).startswith(MAY_RUN_PROGRAMS)]
    assert [path for path in others if "subprocess" in {x.split(".")[0] for x in imports(path)}] == []
    assert places({"os.system", "os.popen", "os.forkpty", "os.execv", "os.spawnv"}) == []
    assert places({"os.fork", "os.execve"}, homes=NAMESPACE) == []


# They run code that is in what they read.
UNPICKLERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}


def test_nothing_is_unpickled() -> None:
    assert [path for path in PROGRAM if UNPICKLERS & {x.split(".")[0] for x in imports(path)}] == []
    assert places({"multiprocessing.Pipe", "multiprocessing.Queue", "multiprocessing.Manager"}) == []


def test_nothing_sleeps() -> None:
    """In the program a sleep is a signal handled late (P1); in a test it is a race that passes on this machine."""
    assert places(SLEEPS, roots=EVERYTHING) == []
    assert [path for path in EVERYTHING if SLEEPS & set(imports(path))] == []


@pytest.mark.parametrize("home", sorted({*REAPERS, *SIGNALLERS, *CLOCKS}))
def test_an_exception_that_is_not_needed_any_more_goes(home: str) -> None:
    """Control, too: the scan finds what it looks for where it is."""
    (path,) = [p for p in PROGRAM if name(p) == home]
    assert places(WAITING | SIGNALLING | WALL_CLOCK, roots=[path])


MOST_LINES = 400


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PROGRAM}
    assert {where: length for where, length in lengths.items() if length > MOST_LINES} == {}


def test_nothing_is_swallowed() -> None:
    bare = [
        f"{name(path)}:{node.lineno}"
        for path in PROGRAM
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []
