"""The parent's end of a helper's socket: lines, never blocking (P8)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from torc_supervise.helpers.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


Ends = tuple[Channel, socket.socket]


def read_all(theirs: socket.socket) -> bytes:
    theirs.setblocking(False)
    data = b""
    try:
        while more := theirs.recv(1 << 16):
            data += more
    except BlockingIOError:
        pass
    return data


def test_lines_arrive_in_order(ends: Ends) -> None:
    channel, theirs = ends
    for i in range(10):
        channel.send(b"%d\n" % i)
    assert channel.flush() is False
    assert read_all(theirs) == b"".join(b"%d\n" % i for i in range(10))


def test_p8_a_peer_that_does_not_read_costs_memory_and_no_time(ends: Ends) -> None:
    channel, theirs = ends
    lines = [b"%07d" % i + b"x" * 1000 + b"\n" for i in range(5000)]
    got = b""
    for line in lines:
        channel.send(line)
        channel.flush()
    assert channel.flush() is True, "something is left for when it is writable"
    for _ in range(10_000):
        got += read_all(theirs)
        if not channel.flush():
            break
    got += read_all(theirs)
    assert got == b"".join(lines)
    assert channel.flush() is False


def test_a_line_longer_than_the_socket_buffer_is_sent_in_parts(ends: Ends) -> None:
    channel, theirs = ends
    line = b"x" * 3_000_000 + b"\n"
    channel.send(line)
    channel.send(b"next\n")
    got = b""
    while channel.flush():
        got += read_all(theirs)
    assert got + read_all(theirs) == line + b"next\n"


def test_parts_of_lines_are_put_together(ends: Ends) -> None:
    channel, theirs = ends
    theirs.sendall(b"one\ntw")
    assert channel.receive() == [b"one"]
    assert channel.receive() == []
    theirs.sendall(b"o\nthree\n")
    assert channel.receive() == [b"two", b"three"]
    assert not channel.closed


def test_what_was_said_before_the_end_is_heard(ends: Ends) -> None:
    channel, theirs = ends
    theirs.sendall(b"last words\nand a half")
    theirs.close()
    assert channel.receive() == [b"last words"]
    assert channel.closed


def test_a_closed_peer_is_no_error(ends: Ends) -> None:
    channel, theirs = ends
    theirs.close()
    channel.send(b"to nobody\n")
    assert channel.flush() is False
    assert channel.closed
    channel.send(b"more\n")
    assert channel.flush() is False
    assert channel.receive() == []


def test_a_peer_that_left_unread_data_behind_is_no_error(ends: Ends) -> None:
    """The kernel says ECONNRESET then instead of the end of file."""
    channel, theirs = ends
    channel.send(b"never read\n")
    channel.flush()
    theirs.close()
    assert channel.receive() == []
    assert channel.closed
