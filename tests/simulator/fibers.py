"""Hub and fibers: simulated threads of simulated processes, a clock that is a number, and what happens when.

A fiber runs until it pauses; then the hub takes the next thing that is due.  Nothing runs at the same time as anything
else, and ties are broken by order, so that the same seed gives the same day.
"""

from __future__ import annotations

import heapq
import itertools
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from greenlet import greenlet

NEVER = float("inf")
MOST_EVENTS = 100_000  # of a day; a long one has some thousands


class Killed(BaseException):
    """The process was killed: no code of it runs any more, and whatever still tries has no effect."""


class Broken(BaseException):
    """A rule was broken.  Not an Exception, so that no code under test takes it for one of its own errors."""


@dataclass(eq=False)
class Proc:
    """One process of ours: a supervisor, a keeper or a command.

    ``fatal``: the number of the system call at which it is killed, 0 for none.  ``frozen_until``: it gets no time on a
    CPU until then (SIGSTOP, a full machine).
    """

    pid: int
    kind: str
    started: float
    fibers: list[Fiber] = field(default_factory=list)
    dead: bool = False
    exit_code: int | None = None  # None: killed
    calls: int = 0
    fatal: int = 0
    frozen_until: float = 0.0
    on_death: list[Callable[[], None]] = field(default_factory=list)
    main: Fiber | None = None


class Fiber:
    """A thread of a process.  Invariant: it runs only while the hub waits for it."""

    def __init__(self, hub: Hub, proc: Proc, name: str, main: Callable[[], None]) -> None:
        self.proc, self.name = proc, name
        self.waiting: str | None = None  # for what
        self.over = False
        self.joiners: list[Fiber] = []
        self._hub, self._main = hub, main
        self._ticket = 0
        self._greenlet = greenlet(self._run, parent=hub.greenlet)
        proc.fibers.append(self)

    def _run(self) -> None:
        try:
            if not self.proc.dead:
                self._main()
        except Killed:
            pass
        except Broken:
            pass  # the hub has it
        except BaseException as error:  # noqa: BLE001
            self._hub.fail(f"a bug: {self.proc.kind}/{self.name} raised {error!r}\n{traceback.format_exc()}")
        self.over = True
        if not self.proc.dead:
            for fiber in self.joiners:
                fiber.wake()
            if self is self.proc.main:
                self.proc.exit_code = self.proc.exit_code or 0
                self._hub.bury(self.proc)

    def pause(self, until: float, what: str) -> None:
        """Let others run until ``until`` or :meth:`wake`; called by the fiber itself."""
        hub = self._hub
        assert hub.current is self
        self._ticket += 1
        self.waiting = what
        if until < NEVER:
            hub.at(until, lambda ticket=self._ticket: self._resume(ticket))
        hub.greenlet.switch()
        self.waiting = None
        if self.proc.dead or hub.failure:
            raise Killed

    def wake(self, delay: float = 0.0) -> None:
        if self.waiting is not None:
            self._hub.at(self._hub.now + delay, lambda ticket=self._ticket: self._resume(ticket))

    def _resume(self, ticket: int) -> None:
        if self.over or self.proc.dead or ticket != self._ticket or self.waiting is None:
            return
        if self._hub.now < self.proc.frozen_until:
            self._hub.at(self.proc.frozen_until, lambda: self._resume(ticket))
            return
        self._switch_to()

    def begin(self) -> None:
        if not self.over and not self.proc.dead:
            self._switch_to()

    def throw(self) -> None:
        """Unwind it; only from the hub."""
        if self.over or not self._greenlet:  # it has not begun
            self.over = True
            return
        before, self._hub.current = self._hub.current, self
        self._greenlet.throw(Killed)
        self._hub.current = before
        self.over = True

    def _switch_to(self) -> None:
        self._hub.current = self
        self._greenlet.switch()
        self._hub.current = None


class Hub:
    """The clock and the list of what is due."""

    def __init__(self, seed: int, start: float = 1000.0) -> None:
        self.now = self.start = start
        self.greenlet = greenlet.getcurrent()
        self.current: Fiber | None = None
        self.failure: str | None = None
        self.where = ""  # the stack at that moment
        self.events = 0
        self.after: Callable[[], None] = lambda: None  # called after every event
        self.random = random.Random(seed)
        self.tokens = random.Random(seed)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._unburied: list[Proc] = []

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def start_fiber(self, proc: Proc, name: str, main: Callable[[], None]) -> Fiber:
        fiber = Fiber(self, proc, name, main)
        proc.main = proc.main or fiber
        self.at(self.now, fiber.begin)
        return fiber

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Until the condition holds; False if nothing is left to happen, or ``limit`` (seconds) has come first."""
        while not self.failure and not until():
            if not self._due or self._due[0][0] > limit:
                return False
            self.now, _, action = heapq.heappop(self._due)
            self.events += 1
            action()
            while self._unburied:
                self.unwind(self._unburied.pop())
            if not self.failure:
                try:
                    self.after()
                except Broken:
                    pass
        return True

    def fail(self, what: str) -> None:
        """A rule was broken: the first one counts."""
        if self.failure is None:
            self.failure, self.where = what, "".join(traceback.format_stack()[:-1])

    def broken(self, what: str) -> Broken:
        self.fail(what)
        return Broken(what)

    def me(self) -> Fiber:
        fiber = self.current
        assert fiber is not None, "a system call from outside of the simulation"
        return fiber

    def enter(self, name: str) -> Proc:
        """A system call begins.  This is where a process may find its death.

        Raises:
            Killed: it is dead.
        """
        proc = self.me().proc
        if proc.dead or self.failure:
            raise Killed
        self.events += 1
        proc.calls += 1
        if self.events > MOST_EVENTS:
            self.fail(f"P12: more than {MOST_EVENTS} events: it goes round in circles")
            raise Killed
        if proc.calls == proc.fatal:
            self.bury(proc)
            raise Killed
        return proc

    def kill(self, proc: Proc) -> None:
        """SIGKILL; only from the hub."""
        if not proc.dead:
            self.bury(proc)

    def bury(self, proc: Proc) -> None:
        if proc.dead:
            return
        proc.dead = True
        self._unburied.append(proc)
        for action in proc.on_death:
            action()

    def unwind(self, proc: Proc) -> None:
        for fiber in proc.fibers:
            fiber.throw()
        proc.fibers.clear()
