"""Chores: whatever happens in one, there is an answer."""

from __future__ import annotations

import queue

import pytest

from support import waiting
from torc_supervise.errors import TorcError
from torc_supervise.helpers import chores, messages
from torc_supervise.helpers.chores import Body, Chores


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TorcError("the scheduler is gone", "a hint"), "the scheduler is gone"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (KeyError("job_id"), "an error of ours: KeyError('job_id')"),
    ],
)
def test_an_error_is_an_answer(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(body: Body) -> Body:
        raise error

    monkeypatch.setitem(chores.KINDS, "test", fail)
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    Chores(told.put).begin(7, "test", {})
    answer = messages.body(told.get(timeout=waiting.LIMIT))
    assert answer == {
        "chore_id": 7,
        "answer": {"ok": False, "kind": type(error).__name__, "message": message},
    }
