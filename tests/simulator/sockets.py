"""Socket pairs and selectors of the simulation.

Bytes are there as soon as they are sent; whoever waits for them is woken a little later, by chance.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from simulator.fibers import NEVER, Fiber, Hub, Proc

CAPACITY = 600  # bytes: small, so that it is full now and then


class Descriptors:
    """Numbers of whatever a selector may wait for: an object with ``readable`` and ``writable``."""

    def __init__(self) -> None:
        self.things: dict[int, Any] = {}
        self._next = 3

    def add(self, thing: Any) -> int:
        self._next += 1
        self.things[self._next] = thing
        return self._next


class Socket:
    """One end.  ``peer`` reads what is sent here."""

    def __init__(self, net: Network, owner: Proc) -> None:
        self.net, self.owner = net, owner
        self.peer: Socket = self
        self.arrived = bytearray()
        self.ended = False  # the peer is closed
        self.closed = False
        self.selector: Selector | None = None
        self._number = net.descriptors.add(self)

    def fileno(self) -> int:
        return -1 if self.closed else self._number

    def setblocking(self, flag: bool) -> None:
        """The loop's end never blocks; the keeper's reads only when there is something."""

    @property
    def readable(self) -> bool:
        return bool(self.arrived) or self.ended

    @property
    def writable(self) -> bool:
        return self.ended or len(self.peer.arrived) < CAPACITY

    def send(self, data: bytes) -> int:
        self.net.hub.enter("send")
        if self.ended:
            raise BrokenPipeError
        room = CAPACITY - len(self.peer.arrived)
        if room <= 0:
            raise BlockingIOError
        self._give(data[:room])
        return min(room, len(data))

    def sendall(self, data: bytes) -> None:
        self.net.hub.enter("sendall")
        if self.ended:
            raise BrokenPipeError
        self.net.told(self.owner, data)
        self._give(data)

    def _give(self, data: bytes) -> None:
        self.peer.arrived += data
        self.peer.notify()

    def recv(self, size: int) -> bytes:
        self.net.hub.enter("recv")
        if not self.arrived and not self.ended:
            raise BlockingIOError
        data = bytes(self.arrived[:size])
        del self.arrived[:size]
        self.peer.notify()  # there is room again
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def notify(self) -> None:
        if self.selector is not None:
            self.selector.wake()

    def close(self) -> None:
        """By one process; the other end of a fork may still have it."""
        if self.owner is self.net.hub.me().proc:
            self.end()

    def end(self) -> None:
        if not self.closed:
            self.closed = True
            self.net.descriptors.things.pop(self._number, None)
            self.peer.ended = True
            self.peer.notify()


class Network:
    """Makes socket pairs.  ``told``: what a keeper is about to tell its parent."""

    def __init__(self, hub: Hub, told: Callable[[Proc, bytes], None]) -> None:
        self.hub, self.told = hub, told
        self.descriptors = Descriptors()

    def socketpair(self) -> tuple[Socket, Socket]:
        owner = self.hub.enter("socketpair")
        ours, theirs = Socket(self, owner), Socket(self, owner)
        ours.peer, theirs.peer = theirs, ours
        return ours, theirs

    def give_to(self, child: Proc, close: set[int]) -> None:
        """A fork: the child has those ends of its parent that it does not close; the parent closes its copy."""
        for number, thing in self.descriptors.things.items():
            if isinstance(thing, Socket) and thing.owner is not child and number not in close:
                thing.owner = child

    def end_of(self, proc: Proc) -> None:
        for thing in list(self.descriptors.things.values()):
            if isinstance(thing, Socket) and thing.owner is proc:
                thing.end()


class Selector:
    """selectors.DefaultSelector over things that have a number here."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._keys: dict[Any, SimpleNamespace] = {}
        self._waiting: Fiber | None = None

    def _thing(self, fileobj: Any) -> Any:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return self._net.descriptors.things.get(number)

    def register(self, fileobj: Any, events: int, data: Any = None) -> None:
        assert fileobj not in self._keys, "registered twice"
        thing = self._thing(fileobj)
        assert thing is not None, "registered after it was closed"
        self._keys[fileobj] = SimpleNamespace(fileobj=fileobj, events=events, data=data, thing=thing)
        thing.selector = self

    def modify(self, fileobj: Any, events: int, data: Any = None) -> None:
        self._keys[fileobj].events = events

    def unregister(self, fileobj: Any) -> None:
        del self._keys[fileobj]

    def get_key(self, fileobj: Any) -> SimpleNamespace:
        return self._keys[fileobj]

    def get_map(self) -> dict[Any, SimpleNamespace]:
        return self._keys

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        self._keys.clear()

    def select(self, timeout: float | None = None) -> list[tuple[SimpleNamespace, int]]:
        hub = self._net.hub
        hub.enter("select")
        until = NEVER if timeout is None else hub.now + timeout
        while not (ready := self._ready()) and hub.now < until:
            self._waiting = hub.me()
            self._waiting.pause(until, "select")
            self._waiting = None
        if timeout == 0.0 or ready:  # a turn takes a moment: nothing spins without the clock
            hub.me().pause(hub.now + hub.random.choice((0.0, 0.0001)), "a turn")
            ready = self._ready()
        return ready

    def _ready(self) -> list[tuple[SimpleNamespace, int]]:
        found = []
        for key in self._keys.values():
            mask = selectors.EVENT_READ if key.events & selectors.EVENT_READ and key.thing.readable else 0
            mask |= selectors.EVENT_WRITE if key.events & selectors.EVENT_WRITE and key.thing.writable else 0
            if mask:
                found.append((key, mask))
        return found

    def wake(self) -> None:
        if self._waiting is not None:
            hub = self._net.hub
            self._waiting.wake(hub.random.choice((0.0, 0.0, 0.0005, 0.01)))
