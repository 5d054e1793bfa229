"""Every record type to a line and back."""

from __future__ import annotations

import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.errors import JournalError
from torc_supervise.machine import records as r
from torc_supervise.store.jsontext import dumps, loads
from torc_supervise.store.records import decode, encode

T = "2026-01-31T12:00:00.000000Z"

_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a field, from its annotation."""
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is types.UnionType:
        return st.one_of(*(st.none() if a is types.NoneType else values(a) for a in arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        leaf = st.none() | st.text() if arguments[1] is Any else values(arguments[1])
        return st.dictionaries(st.text(), leaf, max_size=3)
    raise AssertionError(f"no values for {annotation}: add them here")


def records(cls: type[r.Record]) -> st.SearchStrategy[r.Record]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{name: values(hints[name]) for name in cls.__struct_fields__})


@pytest.mark.parametrize("cls", r.RECORD_TYPES.values(), ids=lambda cls: cls.event)
def test_every_record_type_survives_a_line_and_back(cls: type[r.Record]) -> None:
    @given(records(cls), st.integers(1, 10**12), st.floats(0, 1e9))
    def round_trip(record: r.Record, seq: int, mono: float) -> None:
        line = encode(seq, T, mono, record)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1, "one record, one line"
        assert decode(line) == (seq, T, round(mono, 6), record)
        assert encode(*decode(line)[:3], record) == line, "what was read is written the same"

    round_trip()


def test_the_names_and_the_order_of_a_line() -> None:
    line = encode(7, T, 12.3456789, r.JobStarted(1, 2, 3, 44, 44, (0, 1)))
    assert line == (
        b'{"t":"2026-01-31T12:00:00.000000Z","mono":12.345679,"seq":7,"event":"job_started",'
        b'"run_id":1,"job_id":2,"attempt_id":3,"pid":44,"pgid":44,"gpus":[0,1]}\n'
    )


def test_fields_that_are_none_are_left_out() -> None:
    assert b"gpus" not in encode(1, T, 0.0, r.JobStarted(1, 2, 3, 4, 4))


def test_event_names_are_part_of_the_file_format() -> None:
    """They may be added, never renamed."""
    assert set(r.RECORD_TYPES) >= {
        "workflow_created",
        "workflow_updated",
        "run_started",
        "job_started",
        "job_signaled",
        "job_ended",
        "jobs_canceled",
        "signal_received",
        "termination_started",
        "workflow_canceled",
        "warning",
        "run_ended",
        "workflow_reinitialized",
        "status_reset",
    }


def test_an_event_of_a_newer_version_is_skipped_and_keeps_its_number() -> None:
    line = dumps({"t": T, "mono": 1.0, "seq": 5, "event": "job_teleported", "to": "mars"})
    assert decode(line) == (5, T, 1.0, None)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    line = dumps({**loads(encode(5, T, 1.0, r.WorkflowCanceled(2))), "mood": "sad"})
    assert decode(line)[3] == r.WorkflowCanceled(2)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\x00\x00\x00\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b'"text"\n',
        b'{"t":"t","mono":1,"seq":1}\n',
        b'{"t":"t","mono":1,"seq":1,"event":["list"]}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"job_started","run_id":1}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"status_reset","job_ids":5}\n',
        encode(1, T, 0.0, r.WorkflowCanceled(2))[:-9] + b"\n",
        b"\xff\xfe garbage\n",
        b'{"t":"t","mono":1,"seq":"1","event":"workflow_canceled","run_id":1}\n',
        b'{"t":1,"mono":1,"seq":1,"event":"workflow_canceled","run_id":1}\n',
        b'{"t":"t","mono":"1","seq":1,"event":"workflow_canceled","run_id":1}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"workflow_canceled","run_id":true}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"workflow_canceled","run_id":null}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"job_started","run_id":1,"job_id":1,"attempt_id":1,"pid":"5","pgid":5}\n',
        b'{"t":"t","mono":1,"seq":1,"event":"status_reset","job_ids":"12"}\n',
    ],
)
def test_what_is_not_a_record_is_a_journal_error(line: bytes) -> None:
    with pytest.raises(JournalError):
        decode(line)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(JournalError, match=r"a job_started record: .*`attempt_id`"):
        decode(b'{"t":"t","mono":1,"seq":1,"event":"job_started","run_id":1,"job_id":2}')


@pytest.mark.parametrize("text", ["caf\udce9.txt", "\ud800", "a\udcffb\udc80", "tab\tnewline\nnul\x00"])
def test_p9_text_that_is_not_utf_8_does_not_stop_the_journal(text: str) -> None:
    """A file system's names are bytes; Python holds those that are no UTF-8 as lone surrogates."""
    line = encode(1, T, 0.0, r.Warned(1, "code", f"{text}: disk full", 3))
    record = decode(line)[3]
    assert isinstance(record, r.Warned)
    assert record.message.endswith(": disk full")
    nested = encode(1, T, 0.0, r.JobEnded(1, 1, 1, "failed", "exited", outputs_seen={text: 3}, error=text))
    ended = decode(nested)[3]
    assert isinstance(ended, r.JobEnded)
    assert list((ended.outputs_seen or {}).values()) == [3]
