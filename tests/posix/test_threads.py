"""Threads that may not be to be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from support import waiting
from torc_supervise.posix import threads


@pytest.fixture
def make_room() -> Iterator[Callable[[], object]]:
    """No thread can be started, until this is called: none of them would find room for its stack."""
    before = threading.stack_size(1 << 46)
    yield lambda: threading.stack_size(before)
    threading.stack_size(before)


def test_what_was_begun_is_done() -> None:
    done = threading.Event()
    assert threads.begin(done.set, "work") is not None
    assert done.wait(waiting.LIMIT)


@pytest.mark.usefixtures("make_room")
def test_p11_there_is_none_where_there_is_no_room() -> None:
    assert threads.begin(print, "work") is None


def test_p11_a_late_thread_begins_when_there_is_room(make_room: Callable[[], object]) -> None:
    done = threading.Event()
    late = threads.LateThread(done.set, "work")
    assert not late.join(time.monotonic())
    make_room()
    assert late.join(time.monotonic() + waiting.LIMIT)
    assert done.is_set()
