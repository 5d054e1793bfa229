"""Programs: what the processes of a job do, played on the simulated kernel."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from simulator.fibers import NEVER
from simulator.machine import Machine
from simulator.rules import TERMINATION
from support.fake_kernel import Process


@dataclass(frozen=True)
class Child:
    """One more process of a job: ``after`` seconds it is there, and it lives for ``seconds`` if nobody ends it.

    ``way``: "stays" in the group, leaves it by "setsid", becomes a "daemon" (its parent ends at once), or one that
    has "wiped" its environment besides.  On the termination signal it "dies", "ignores" it or "saves" for a while.
    """

    after: float = 0.0
    seconds: float = NEVER
    way: str = "stays"
    on_signal: str = "dies"


@dataclass(frozen=True)
class Program:
    """``on_signal``: "dies", "ignores", "saves" (for ``saving`` seconds, then exit(``saved_code``)), or "exits" with
    the code it would have had, in the very moment.  ``stuck_at``: seconds after its start at which it is in
    uninterruptible sleep, for ``stuck_for``."""

    seconds: float = 10.0
    code: int = 0
    on_signal: str = "dies"
    saving: float = 2.0
    saved_code: int = 0
    children: tuple[Child, ...] = ()
    stuck_at: float = NEVER
    stuck_for: float = 0.0


class Player:
    """Begins the program of each job that is spawned."""

    def __init__(self, machine: Machine, programs: dict[int, Program], checkpoints: dict[int, str]) -> None:
        self._machine, self._kernel = machine, machine.kernel
        self.programs, self._checkpoints = programs, checkpoints
        machine.kernel.begin = self.begin  # type: ignore[method-assign]
        machine.kernel._behaviour = self.begin

    def begin(self, process: Process) -> None:
        job_id = int(process.environment["TORC_JOB_ID"])
        program = self.programs.get(job_id, Program())
        self._handle(process, program.on_signal, program, self._checkpoints.get(job_id))
        for child in program.children:
            self._later(process, child.after, lambda child=child: self._fork(process, child, program))
        if program.seconds < NEVER:
            self._later(process, program.seconds, lambda: self._kernel.exit(process.pid, program.code))
        if program.stuck_at < NEVER:
            self._later(process, program.stuck_at, lambda: self._stick(process, program.stuck_for))

    def _stick(self, process: Process, seconds: float) -> None:
        process.uninterruptible = True
        if seconds < NEVER:
            self._kernel.schedule(seconds, lambda: process.alive and self._kernel.release(process.pid))

    def _later(self, process: Process, seconds: float, action: Callable[[], None]) -> None:
        """Unless it is dead by then.  What is stopped or stuck goes on when it can."""

        def act() -> None:
            if not process.alive:
                return
            if process.stopped or process.uninterruptible:
                self._kernel.schedule(5.0, act)
                return
            action()

        self._kernel.schedule(seconds, act)

    def _fork(self, parent: Process, child: Child, program: Program) -> None:
        process = self._kernel.processes[self._kernel.fork(parent.pid)]
        self._handle(process, child.on_signal, program, None)
        if child.way != "stays":
            self._kernel.setsid(process.pid)
        if child.way in ("daemon", "wiped"):
            daemon = self._kernel.processes[self._kernel.fork(process.pid)]
            self._handle(daemon, child.on_signal, program, None)
            self._kernel.exit(process.pid)
            process = daemon
        if child.way == "wiped":
            process.environment = {}
            self._machine.rules.attempts.untraceable.add(process)
        if child.seconds < NEVER:
            self._later(process, child.seconds, lambda: self._kernel.exit(process.pid, 0))

    def _handle(self, process: Process, what: str, program: Program, checkpoint: str | None) -> None:
        def save(process: Process, signum: int) -> None:
            def done() -> None:
                if checkpoint is not None:
                    self._machine.disk.touch(checkpoint)
                self._kernel.exit(process.pid, program.saved_code)

            self._later(process, program.saving, done)

        def leave(process: Process, signum: int) -> None:
            self._kernel.exit(process.pid, program.code)

        handlers = {"ignores": lambda process, signum: None, "saves": save, "exits": leave}
        for signum in TERMINATION if what in handlers else ():
            self._kernel.handle(process.pid, signal.Signals(signum), handlers[what])
