"""Threads that may not be to be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from support import waiting
from torc_supervise.posix import threads


@pytest.fixture
def full() -> Iterator[None]:
    """No thread can be started: none of them would find room for its stack."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


def test_what_was_begun_is_done() -> None:
    done = threading.Event()
    assert threads.begin(done.set, "work") is not None
    assert done.wait(waiting.LIMIT)


@pytest.mark.usefixtures("full")
def test_p11_there_is_none_where_there_is_no_room() -> None:
    assert threads.begin(print, "work") is None
