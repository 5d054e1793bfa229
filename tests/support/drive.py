"""The supervisor under test, as a process of its own: ``python drive.py SETUP.json``.

SETUP.json: ``{"output": DIR, "workflow": Workflow.to_dict() or null, "options": RunOptions fields, "resume": bool}``.
``"fault"``: a path; as soon as a file is there, the loop raises at the end of a turn, as a bug in it would.
``"hung_disk"``: path of a FIFO; as soon as it is there, every fsync waits until somebody opens it for writing; the file
``hung_disk.reached`` says that one does.
``"sick_disk"``: a path; as long as a file is there, every fsync fails with the error that it names.
``"no_keepers"``: a path; as long as a file is there, every new keeper dies before it has done anything.
``"later"``: a path; when a file is there, the monotonic clock is LATER seconds ahead of what it was.
``"interrupt"``, ``"constants"``: see ``Bench.start``.
``"last_words"``: seconds for which whoever takes what is said is waited for at the end, null for what is usual.
``"cgroups"``: whether jobs may get cgroups of their own.
Without a workflow the newest one in DIR is opened again: run once more with ``resume``, else only opened, which
records what a dead supervisor left.  The last line on stdout is the report, as JSON.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import time
from typing import Any

from msgspec.structs import asdict

from torc_supervise.errors import TorcError
from torc_supervise.helpers import keeper, link
from torc_supervise.helpers.speaker import Speaker
from torc_supervise.loop import Loop
from torc_supervise.operations import opened as o
from torc_supervise.operations import run as runs
from torc_supervise.operations.reinitialize import first_record, plan_reinitialize, reinitialize
from torc_supervise.operations.surroundings import RunOptions, survey
from torc_supervise.posix import cgroups, namespaces
from torc_supervise.store.layout import find
from torc_supervise.workflow.model import Workflow

LATER = 3000.0  # seconds


def say(text: str) -> None:
    print(f"drive: {text}", file=sys.stderr, flush=True)


def plant(fault: str) -> None:
    turn = Loop.turn

    def faulty(self: Loop) -> None:
        turn(self)
        if os.path.exists(fault):
            raise RuntimeError("a bug")

    Loop.turn = faulty  # type: ignore[method-assign]


def plant_in_keepers(fault: str) -> None:
    begin = keeper.main

    def faulty(*arguments: Any) -> None:
        if os.path.exists(fault):
            os._exit(71)
        begin(*arguments)

    keeper.main = faulty


def plant_in_disk(fifo: str, sick: str) -> None:
    """Only the keeper syncs anything while a run goes on."""
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if os.path.exists(fifo):
            with open(f"{fifo}.reached", "wb"):
                pass
            with open(fifo, "rb"):  # waits until somebody has it open for writing
                pass
        try:
            with open(sick, encoding="ascii") as file:
                number = getattr(errno, file.read())
        except FileNotFoundError:  # never was, or was removed just now
            sync(descriptor)
        else:
            raise OSError(number, os.strerror(number))

    os.fsync = fail


def plant_in_clock(later: str) -> None:
    """Of the supervisor, of its helpers, which are forked, and of the leaders of isolated jobs."""
    monotonic, gettime = time.monotonic, time.clock_gettime

    def ahead() -> float:
        return monotonic() + (LATER if os.path.exists(later) else 0.0)

    def clock_ahead(clock: int) -> float:
        return gettime(clock) + (LATER if os.path.exists(later) else 0.0)

    time.monotonic, time.clock_gettime = ahead, clock_ahead
    boot = f"import os, time; clock = time.monotonic; late = lambda: {LATER} * os.path.exists({later!r}); "
    namespaces._BOOT = f"{boot}time.monotonic = lambda: clock() + late(); {namespaces._BOOT}"


def interrupt_after_fork(signum: int) -> None:
    """A signal comes when there is a keeper, and no loop yet."""
    fork = link.fork_helper

    def interrupted(*arguments: Any) -> int:
        pid = fork(*arguments)
        signal.raise_signal(signum)
        return pid

    link.fork_helper = interrupted


def plant_in_speakers(seconds: float) -> None:
    """A file takes what is said to it: however late their threads are, they are waited for."""
    finish = Speaker.finish

    def patient(self: Speaker, limit: float) -> None:
        finish(self, seconds if limit else limit)

    Speaker.finish = patient  # type: ignore[method-assign]


def main(path: str) -> int:
    with open(path, "rb") as file:
        setup = json.load(file)
    if setup["fault"] is not None:
        plant(setup["fault"])
        plant_in_keepers(setup["no_keepers"])
        plant_in_disk(setup["hung_disk"], setup["sick_disk"])
        plant_in_clock(setup["later"])
    if setup["last_words"] is not None:
        plant_in_speakers(setup["last_words"])
    for name, value in setup["constants"].items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"torc_supervise.{module}"), constant, value)
    if setup["interrupt"] is not None:
        interrupt_after_fork(setup["interrupt"])
    if not setup["cgroups"]:
        cgroups.make = lambda nonce: None
    options = RunOptions(**setup["options"])
    if setup["workflow"] is not None:
        workflow = Workflow.from_dict(setup["workflow"])
        opened = o.create_workflow(setup["output"], lambda new: first_record(workflow, new), "run", say)
    else:
        opened = o.open_workflow(find(setup["output"], None), "run", say)
    with opened:
        if setup["workflow"] is None and not setup["resume"]:
            statuses = {job.name: opened.state.status[job.job_id] for job in opened.state.workflow.jobs}
            print(json.dumps({"statuses": statuses, "exit_code": 0}))
            return 0
        if setup["resume"]:
            reinitialize(opened, plan_reinitialize(opened.state))
        report = runs.run(opened, options, survey(options, say), say)
    print(json.dumps(asdict(report)))
    return report.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except TorcError as error:
        say(str(error))
        sys.exit(error.exit_code)
