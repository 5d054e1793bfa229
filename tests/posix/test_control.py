"""The control socket: private, and no client holds up another."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from torc_supervise.helpers import control
from torc_supervise.helpers.control import (
    LARGEST_REQUEST,
    MOST_CLIENTS,
    ControlSocket,
    new_directory,
    runtime_directory,
)
from torc_supervise.operations import lookup
from torc_supervise.operations.lookup import ask

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


# -- a temporary directory that is shared with others ---------------------------------------------------------------


def ask_in_turns(service: Service, path: str) -> bytes | None:
    """``ask`` blocks, so somebody has to serve meanwhile."""
    answers: list[bytes | None] = []
    asking = threading.Thread(target=lambda: answers.append(ask(path, {"ask": "status"})))
    asking.start()
    while asking.is_alive():
        service.turn()
    asking.join()
    return answers[0]


def test_the_owner_is_answered(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "ANSWER_WITHIN", waiting.LIMIT)  # here the answer may come late
    assert ask_in_turns(service, service.control.path) == b'{"you asked": {"ask": "status"}}'


def test_a_name_that_somebody_else_has_taken_is_left_to_them(tmp_path: Path, service: Service) -> None:
    """A symbolic link where the next keeper of a run makes its directory again."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    taken = tmp_path / "torc-supervise-taken"
    taken.symlink_to(elsewhere)
    made = ControlSocket(service.selector, lambda request: b"", str(taken))
    assert os.path.dirname(made.path) != str(taken)
    assert os.path.exists(made.path)
    made.close()
    assert (taken.is_symlink(), list(elsewhere.iterdir())) == (True, [])


def test_a_socket_behind_a_link_or_in_an_open_directory_is_not_asked(
    tmp_path: Path, service: Service
) -> None:
    directory = os.path.dirname(service.control.path)
    (tmp_path / "link").symlink_to(directory)
    assert ask(str(tmp_path / "link" / "control"), {"ask": "status"}) is None
    private = tmp_path / "private"
    private.mkdir(0o700)
    (private / "control").symlink_to(service.control.path)
    assert ask(str(private / "control"), {"ask": "status"}) is None
    (private / "file").write_text("")
    assert ask(str(private / "file"), {"ask": "status"}) is None
    os.chmod(directory, 0o755)
    assert ask(service.control.path, {"ask": "status"}) is None
    assert service.asked == []


@pytest.mark.root
def test_a_socket_or_directory_of_another_user_is_not_asked(service: Service) -> None:
    directory = os.path.dirname(service.control.path)
    for path in (service.control.path, directory):
        os.chown(path, 65534, -1)
        assert ask(service.control.path, {"ask": "status"}) is None
        os.chown(path, os.geteuid(), -1)


def test_another_user_who_gets_through_is_turned_away_by_the_kernels_word(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control.peer_of(service.connect()) == os.geteuid()
    monkeypatch.setattr(control, "peer_of", lambda connection: os.geteuid() + 1)
    client = service.connect()
    client.send(b'{"ask": "cancel"}\n')
    with contextlib.suppress(ConnectionResetError):
        assert read_all(service, client) == b""
    assert service.asked == []


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_runtime_directory_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    made = tmp_path / "runtime"
    made.mkdir()
    made.chmod(mode)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    assert runtime_directory() != str(made)


@pytest.mark.root
def test_a_runtime_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is named after sudo."""
    os.chown(tmp_path, 65534, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() != str(tmp_path)
