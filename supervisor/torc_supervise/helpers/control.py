"""The control socket: live answers for ``status`` on this host, and ``cancel``.

A Unix socket in a private directory (0700) on a local disk.  One request line, one JSON document, the end.  The keeper
serves it from its own copy of the state, so that answering never holds up the parent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import struct
from collections.abc import Callable

from torc_supervise.store.jsontext import NotJsonError, loads

LARGEST_REQUEST = 4096  # bytes
MOST_CLIENTS = 64
_CREDENTIALS = struct.Struct("3i")

_SOCKET = "control"  # its name in the directory


class ControlSocket:
    """Listens and answers within the keeper's selector; never blocks on a client."""

    def __init__(
        self, selector: selectors.BaseSelector, answer: Callable[[object], bytes], directory: str
    ) -> None:
        """Make ``directory`` (of :func:`new_directory`); what a keeper that was killed has left there goes.

        In a shared temporary directory somebody else may have taken the name since: then it is another one.
        """
        self._selector = selector
        self._answer = answer
        self._clients: dict[socket.socket, _Client] = {}
        self._directory = _make(directory)
        self.path = os.path.join(self._directory, _SOCKET)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._listener.bind(self.path)
        finally:
            os.umask(old)
        self._listener.listen(MOST_CLIENTS)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
        remove(self._directory)

    def _accept(self, mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS or peer_of(connection) not in (os.geteuid(), 0):
            connection.close()
            return
        connection.setblocking(False)
        self._clients[connection] = _Client()
        self._selector.register(connection, selectors.EVENT_READ, lambda mask: self._serve(connection, mask))

    def _serve(self, connection: socket.socket, mask: int) -> None:
        client = self._clients[connection]
        try:
            done = client.write(connection) if client.reply else self._read(connection, client)
        except BlockingIOError:
            return
        except OSError:
            done = True  # it went away
        if done:
            self._drop(connection)

    def _read(self, connection: socket.socket, client: _Client) -> bool:
        data = connection.recv(LARGEST_REQUEST)
        client.request += data
        if not data or len(client.request) > LARGEST_REQUEST:
            return True
        if b"\n" not in client.request:
            return False
        try:
            request = loads(client.request)
        except NotJsonError:
            return True
        client.reply = memoryview(self._answer(request))
        self._selector.modify(connection, selectors.EVENT_WRITE, lambda mask: self._serve(connection, mask))
        return False

    def _drop(self, connection: socket.socket) -> None:
        del self._clients[connection]
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()


class _Client:
    def __init__(self) -> None:
        self.request = b""
        self.reply = memoryview(b"")

    def write(self, connection: socket.socket) -> bool:
        """Send what fits; returns whether everything is sent."""
        sent = connection.send(self.reply)
        self.reply = self.reply[sent:]
        return not self.reply


def new_directory() -> str:
    """A path for the control socket of one run.  All its keepers use the same, and nobody else guesses it."""
    return os.path.join(runtime_directory(), f"torc-supervise-{os.urandom(6).hex()}")


def _make(directory: str) -> str:
    remove(directory)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        directory = new_directory()
        os.mkdir(directory, 0o700)
    return directory


def peer_of(connection: socket.socket) -> int:
    """User id of whoever is at the other end, as the kernel knows it (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(credentials)
    return int(uid)


def remove(directory: str) -> None:
    """With the socket in it.  One that is somebody else's stays."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(directory, _SOCKET))
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def runtime_directory() -> str:
    """A directory on a local disk: the user's runtime directory if there is one, else the temporary directory.

    After ``sudo`` or ``su`` the variable may still name that of another user.
    """
    wanted = os.environ.get("XDG_RUNTIME_DIR", "")
    if wanted and _is_ours_alone(wanted) and os.access(wanted, os.W_OK | os.X_OK):
        return wanted
    if os.access("/tmp", os.W_OK | os.X_OK):
        return "/tmp"
    import tempfile  # slow to import, and hardly ever needed

    return tempfile.gettempdir()


def _is_ours_alone(directory: str) -> bool:
    try:
        about = os.stat(directory)
    except OSError:
        return False
    mode = stat.S_IMODE(about.st_mode)
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not mode & 0o022
