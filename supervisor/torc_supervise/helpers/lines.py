"""Lines: a helper's end of the connection to its parent, as far as it listens."""

from __future__ import annotations

import socket

_RECEIVED_AT_A_TIME = 1 << 16  # bytes


class LineReader:
    """Whole lines from a blocking socket that the selector said is readable."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_RECEIVED_AT_A_TIME))
        self._rest = b""
        self.ended = False

    def read(self) -> list[bytes]:
        try:
            size = self._connection.recv_into(self._buffer)
        except OSError:
            size = 0
        if not size:
            self.ended = True
        *lines, self._rest = (self._rest + bytes(self._buffer[:size])).split(b"\n")
        return lines
