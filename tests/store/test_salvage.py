"""Salvage: whatever happened to a journal, what can be read of it is kept, and the books come out even (P9)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replaying import Program, World, job
from torc_supervise.errors import JournalError
from torc_supervise.machine import records as r
from torc_supervise.store import journal, salvage
from torc_supervise.store.records import decode


def story() -> list[bytes]:
    """A whole run of five jobs: one fails, one leaves something behind, and everything is told."""
    programs = {2: Program(seconds=1.0, code=3), 3: Program(seconds=1.0, children=(9.0,))}
    jobs = (job(1), job(2), job(3), job(4, depends_on=(1,)), job(5, depends_on=(2,)))
    world = World(*jobs, programs=programs).finish()
    world.supervision.end(r.RunEnded(1, world.supervision.outcome().value, 1))
    world.settle()
    return world.lines


LINES = story()


def salvaged(path: Path, content: bytes) -> salvage.Salvaged:
    path.write_bytes(content)
    return salvage.salvage(str(path))


def even(path: Path, found: salvage.Salvaged) -> list[r.Record]:
    """The new journal reads back, and each attempt that started in a run that ended has one result."""
    path.write_bytes(b"".join(found.lines))
    state, seq = journal.replay(str(path))
    assert seq == len(found.lines)
    records = [entry.record for entry in journal.read(str(path)) if entry.record is not None]
    started = [(x.run_id, x.job_id, x.attempt_id) for x in records if isinstance(x, r.JobStarted)]
    ended = [(x.run_id, x.job_id, x.attempt_id) for x in records if isinstance(x, r.JobEnded)]
    assert len(set(started)) == len(started)
    assert len(set(ended)) == len(ended)
    assert set(ended) <= set(started)
    assert {job_id for _, job_id, _ in set(started) - set(ended)} == set(state.live)
    if isinstance(records[-1], r.RunEnded):
        assert not state.live
    return records


def index(event: str, job_id: int | None = None) -> int:
    """Of a line of the story."""
    for number, line in enumerate(LINES):
        record = decode(line)[3]
        if record is not None and record.event == event and job_id in (None, getattr(record, "job_id", None)):
            return number
    raise AssertionError(event)


def test_a_journal_that_is_fine_stays_as_it_is(tmp_path: Path) -> None:
    found = salvaged(tmp_path / "j", b"".join(LINES))
    assert (found.lines, found.damages, found.kept) == (LINES, [], len(LINES))


def test_a_torn_last_line_is_no_damage(tmp_path: Path) -> None:
    for cut in range(1, len(LINES[-1])):
        assert salvaged(tmp_path / "j", b"".join(LINES)[:-cut]).damages == []


def without(at: int) -> list[bytes]:
    return [*LINES[:at], *LINES[at + 1 :]]


def garbled(at: int) -> list[bytes]:
    return [*LINES[:at], b"\0" * 50 + b"\n", *LINES[at + 1 :]]


@pytest.mark.parametrize("damage", [without, garbled])
def test_a_lost_result_is_recorded_as_lost_before_its_run_ends(
    tmp_path: Path, damage: Callable[[int], list[bytes]]
) -> None:
    found = salvaged(tmp_path / "j", b"".join(damage(index("job_ended", 1))))
    records = even(tmp_path / "k", found)
    (lost,) = [x for x in records if isinstance(x, r.JobEnded) and x.job_id == 1]
    assert (lost.status, lost.ended, lost.return_code) == ("terminated", "lost", None)
    assert lost.error == salvage.LOST_RESULT
    assert isinstance(records[-1], r.RunEnded)


@pytest.mark.parametrize("damage", [without, garbled])
def test_a_result_whose_start_is_lost_is_kept(tmp_path: Path, damage: Callable[[int], list[bytes]]) -> None:
    found = salvaged(tmp_path / "j", b"".join(damage(index("job_started", 2))))
    records = even(tmp_path / "k", found)
    (kept,) = [x for x in records if isinstance(x, r.JobEnded) and x.job_id == 2]
    assert (kept.status, kept.return_code) == ("failed", 3)


def test_missing_lines_are_named_by_the_place_after_them(tmp_path: Path) -> None:
    found = salvaged(tmp_path / "j", b"".join([LINES[0], *LINES[3:]]))
    first = found.damages[0]
    assert (first.line, first.byte) == (2, len(LINES[0]))
    assert first.what == "before it, record 2 to 3 is missing"


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    at = index("job_ended", 1)
    found = salvaged(tmp_path / "j", b"".join([*LINES[: at + 1], LINES[at], *LINES[at + 1 :]]))
    assert [d.what for d in found.damages] == [f"record {at + 1} a second time"]
    assert found.lines == LINES


def test_what_was_cut_short_and_written_on_gives_up_its_second_half(tmp_path: Path) -> None:
    at = index("job_ended", 2)
    glued = [*LINES[:at], LINES[at][:40] + LINES[at + 1], *LINES[at + 2 :]]
    found = salvaged(tmp_path / "j", b"".join(glued))
    assert "1 whole records were found in it" in found.damages[0].what
    records = even(tmp_path / "k", found)
    assert decode(LINES[at + 1])[3] in records


def test_two_lines_without_a_newline_between_them_are_both_kept(tmp_path: Path) -> None:
    at = index("job_ended", 2)
    found = salvaged(tmp_path / "j", b"".join([*LINES[:at], LINES[at][:-1], *LINES[at + 1 :]]))
    assert len(found.damages) == 1
    assert found.lines == LINES


def test_an_event_of_a_newer_version_is_kept_under_its_new_number(tmp_path: Path) -> None:
    newer = b'{"t":"t","mono":1.0,"seq":3,"event":"job_teleported","to":"mars"}\n'
    found = salvaged(tmp_path / "j", b"".join([LINES[0], newer]))
    assert found.lines[1] == newer.replace(b'"seq":3', b'"seq":2')


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"".join(LINES[1:])])
def test_without_its_first_record_nothing_can_be_repaired(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(JournalError, match="holds the workflow itself") as caught:
        salvaged(tmp_path / "j", content)
    assert caught.value.hint


DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["drop", "twice", "swap", "cut", "nul", "flip", "glue", "garbage"]),
        st.integers(1, len(LINES) - 1),
        st.integers(0, 10_000),
    ),
    min_size=1,
    max_size=6,
)


@given(DAMAGES)
def test_p9_whatever_happened_behind_the_first_line_a_readable_journal_comes_out(
    damages: list[tuple[str, int, int]],
) -> None:
    lines = list(LINES)
    for what, at, place in damages:
        at = 1 + at % (len(lines) - 1) if len(lines) > 1 else 0
        if at == 0:
            break
        line = bytearray(lines[at])
        inside = place % max(1, len(line))
        match what:
            case "drop":
                del lines[at]
            case "twice":
                lines.insert(1 + place % len(lines), lines[at])
            case "swap":
                other = 1 + place % (len(lines) - 1)
                lines[at], lines[other] = lines[other], lines[at]
            case "cut":
                lines[at] = bytes(line[:inside])
            case "nul":
                line[inside : inside + 8] = b"\0" * 8
                lines[at] = bytes(line)
            case "flip":
                line[inside : inside + 1] = bytes([line[inside] ^ 1 << place % 8]) if line else b""
                lines[at] = bytes(line)
            case "glue":
                lines[at] = bytes(line).rstrip(b"\n")
            case "garbage":
                lines.insert(at, b'{"t":"' + bytes(range(32, 32 + place % 60)) + b"\n")
    with tempfile.TemporaryDirectory() as directory:
        found = salvaged(Path(directory) / "j", b"".join(lines))
        even(Path(directory) / "k", found)
        if not found.damages:
            path = Path(directory) / "j"
            journal.replay(str(path))
