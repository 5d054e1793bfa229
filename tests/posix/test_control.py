"""The control socket: private, and no client holds up another."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from torc_supervise.helpers.control import LARGEST_REQUEST, MOST_CLIENTS, ControlSocket, new_directory

BIG = b"x" * 5_000_000


class Service:
    """A control socket with the selector that serves it."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.asked: list[object] = []
        self.control = ControlSocket(self.selector, self._answer, new_directory())
        self.clients: list[socket.socket] = []

    def _answer(self, request: object) -> bytes:
        self.asked.append(request)
        return BIG if request == "big" else json.dumps({"you asked": request}).encode()

    def turn(self) -> None:
        """Serve until nothing is ready."""
        while ready := self.selector.select(0):
            for key, mask in ready:
                key.data(mask)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self.clients.append(client)
        client.connect(self.control.path)
        client.setblocking(False)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.control.close()
        self.selector.close()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = Service()
    yield made
    made.close()


def read_all(service: Service, client: socket.socket) -> bytes:
    data = b""
    while True:
        service.turn()
        try:
            more = client.recv(1 << 20)
        except BlockingIOError:
            continue
        if not more:
            return data
        data += more


def test_one_request_one_answer_the_end(service: Service) -> None:
    client = service.connect()
    client.send(b'{"ask": "status"}\n')
    assert json.loads(read_all(service, client)) == {"you asked": {"ask": "status"}}


def test_nobody_else_may_connect(service: Service) -> None:
    path = service.control.path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_a_request_in_parts(service: Service) -> None:
    client = service.connect()
    for part in (b'{"ask"', b': "sta', b'tus"}\n'):
        client.send(part)
        service.turn()
    assert json.loads(read_all(service, client)) == {"you asked": {"ask": "status"}}


@pytest.mark.parametrize("request_", [b"x" * (LARGEST_REQUEST + 1), b"{not json}\n", b""])
def test_an_oversized_or_senseless_request_is_dropped(service: Service, request_: bytes) -> None:
    client = service.connect()
    if request_:
        client.send(request_)
    else:
        client.shutdown(socket.SHUT_WR)
    try:
        assert read_all(service, client) == b""
    except ConnectionResetError:
        pass  # it was dropped with unread data
    assert service.asked == []


def test_a_slow_client_does_not_hold_up_others(service: Service) -> None:
    silent, slow, quick = service.connect(), service.connect(), service.connect()
    slow.send(b'"big"\n')
    service.turn()  # as much as fits into its socket
    quick.send(b'"quick"\n')
    assert json.loads(read_all(service, quick)) == {"you asked": "quick"}
    assert read_all(service, slow) == BIG, "it gets the rest when it reads"
    silent.send(b'"late"\n')
    assert json.loads(read_all(service, silent)) == {"you asked": "late"}


def test_a_client_that_goes_away_while_it_is_answered(service: Service) -> None:
    client = service.connect()
    client.send(b'"big"\n')
    service.turn()
    client.close()
    service.turn()
    other = service.connect()
    other.send(b'"still there"\n')
    assert json.loads(read_all(service, other)) == {"you asked": "still there"}


def test_more_clients_than_are_served_are_turned_away(service: Service) -> None:
    clients = []
    for _ in range(MOST_CLIENTS):
        clients.append(service.connect())
        service.turn()
    extra = service.connect()
    assert read_all(service, extra) == b""
    clients[0].send(b'"first"\n')
    assert json.loads(read_all(service, clients[0])) == {"you asked": "first"}


def test_it_takes_its_directory_along(service: Service) -> None:
    directory = os.path.dirname(service.control.path)
    client = service.connect()
    service.turn()
    other = Service()
    other.close()
    assert not os.path.exists(os.path.dirname(other.control.path))
    assert os.path.exists(directory)
    client.close()
