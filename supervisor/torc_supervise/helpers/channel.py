"""The parent's end of the connection to a helper: lines both ways, never blocking (P8).

What the helper has not taken yet waits in memory.  Records wait until they were acknowledged, which is after fsync; a
new keeper gets them again.
"""

from __future__ import annotations

import socket
from collections import deque

LARGEST_LINE = 1 << 24  # bytes; a helper never says more
BATCH = 1 << 17  # bytes handed to the kernel at a time; a socket buffer takes about as much
_RECEIVED_AT_A_TIME = 1 << 16  # bytes


class Channel:
    """Lines to and from one helper over a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._out: deque[bytes] = deque()
        self._in = bytearray()
        self._received = memoryview(bytearray(_RECEIVED_AT_A_TIME))  # kept: a new one would be mapped anew
        self.closed = False
        self.waits = False  # until the socket is writable, as the selector was told

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, line: bytes) -> None:
        """Queue one line, newline included; :meth:`flush` moves what the helper takes."""
        self._out.append(line)

    def flush(self) -> bool:
        """Write as much as fits at once.  Returns whether something is left for when the socket is writable."""
        while self._out and not self.closed:
            batch = self._next_batch()
            try:
                sent = self._socket.send(batch)
            except BlockingIOError:
                sent = 0
            except OSError:  # EPIPE, ECONNRESET: the helper is gone; the reaper will say so
                self.closed = True
                return False
            if sent < len(batch):
                self._out.appendleft(batch[sent:])
                return True
        return False

    def _next_batch(self) -> bytes:
        """As many lines as one send may take: joining all of a long queue at every try would cost its square."""
        lines, size = [], 0
        while self._out and size < BATCH:
            lines.append(self._out.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def receive(self) -> list[bytes]:
        """All whole lines that have arrived, without their newlines.  Sets ``closed`` at the end of the stream."""
        while True:
            try:
                size = self._socket.recv_into(self._received)
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if not size:
                self.closed = True
                break
            self._in += self._received[:size]
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest[:LARGEST_LINE])
        return lines

    def close(self) -> None:
        self.closed = True
        self._socket.close()
