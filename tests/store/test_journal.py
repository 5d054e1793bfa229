"""The journal: torn lines, garbled lines, full disks (P9: nothing is lost, doubled or torn)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replaying import job, workflow
from torc_supervise.errors import EXIT_OURS, JournalError
from torc_supervise.machine import records as r
from torc_supervise.machine.status import Status
from torc_supervise.store import journal
from torc_supervise.store.journal import Journal, read, replay
from torc_supervise.store.records import encode

FIRST = r.WorkflowCreated(r.SCHEMA_VERSION, 1, workflow(job(1), job(2, depends_on=(1,))).to_dict())


def line(seq: int, record: r.Record | None = None) -> bytes:
    return encode(seq, f"t{seq}", float(seq), record or r.Warned(1, "code", f"number {seq}"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "events.jsonl"
    journal.create(str(file), FIRST, "t1", 1.0)
    return file


def numbers(path: Path) -> list[int]:
    return [entry.seq for entry in read(str(path))]


def write(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


def test_create_makes_a_journal_that_reads_back(path: Path) -> None:
    state, seq = replay(str(path))
    assert (state.workflow_id, seq, state.created_at) == (1, 1, "t1")
    assert [state.status[1], state.status[2]] == [Status.READY, Status.BLOCKED]


def test_entries_know_where_their_line_is(path: Path) -> None:
    write(path, line(2))
    entries = list(read(str(path)))
    assert [(e.seq, e.t, e.mono) for e in entries] == [(1, "t1", 1.0), (2, "t2", 2.0)]
    assert path.read_bytes()[entries[1].offset :] == line(2)


# -- reading what a crash left ----------------------------------------------------------------------------------


def test_a_torn_last_line_is_dropped_at_every_length(path: Path) -> None:
    write(path, line(2))
    whole = path.read_bytes()
    for cut in range(1, len(line(3))):
        path.write_bytes(whole + line(3)[:cut])
        assert numbers(path) == [1, 2]
    path.write_bytes(whole + line(3))
    assert numbers(path) == [1, 2, 3]


def test_opening_for_writing_cuts_the_torn_line_off(path: Path) -> None:
    write(path, line(2), line(3)[:-5])
    writer = Journal(str(path))
    assert writer.last_seq() == 2
    writer.append(line(3))
    writer.close()
    assert numbers(path) == [1, 2, 3]


def test_a_torn_line_longer_than_a_block_is_found(path: Path) -> None:
    long = line(2, r.Warned(1, "code", "x" * 200_000))
    write(path, long, long[:150_000])
    writer = Journal(str(path))
    assert writer.last_seq() == 2
    writer.close()
    assert numbers(path) == [1, 2]


def test_a_new_journal_has_no_last_record(tmp_path: Path) -> None:
    writer = Journal(str(tmp_path / "new"), new=True)
    assert (writer.last_seq(), writer.committed) == (0, 0)
    writer.close()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (b"garbage\n", "not a record"),
        (line(3), "record 3 where 2 belongs"),
        (line(1), "record 1 where 2 belongs"),
        (b"\n", "not a record"),
        (line(2, r.JobStarted(1, 99, 1, 5, 5)), "does not fit"),
        (line(2, r.JobEnded(1, 1, 1, "flying", "exited")), "does not fit"),
    ],
)
def test_a_garbled_line_is_an_error_that_names_line_and_byte(path: Path, damage: bytes, what: str) -> None:
    size = path.stat().st_size
    write(path, damage, line(3))
    with pytest.raises(JournalError) as caught:
        replay(str(path))
    assert f"{path}: line 2 (byte {size}): " in caught.value.message
    assert what in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == EXIT_OURS


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    newer = r.WorkflowCreated(r.SCHEMA_VERSION + 1, 8, FIRST.workflow)
    path.write_bytes(encode(1, "t", 0.0, newer))
    with pytest.raises(JournalError, match=r"workflow 8 was written by a newer version \(schema 2"):
        replay(str(path))


def test_an_event_of_a_newer_version_is_passed_over(path: Path) -> None:
    write(path, b'{"t":"t","mono":2,"seq":2,"event":"job_teleported"}\n', line(3))
    state, seq = replay(str(path))
    assert seq == 3
    assert len(state.warnings) == 1


@pytest.mark.parametrize("content", [b"", line(1), b'{"torn'])
def test_a_journal_without_its_first_record_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="the first line is not a workflow_created record"):
        replay(str(path))


# -- a disk that is full for a while ------------------------------------------------------------------------------


class FullDisk:
    """os.write that takes ``room`` bytes and then fails; os.fsync that fails ``bad_fsyncs`` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, bad_fsyncs: int = 0) -> None:
        self.room, self.bad_fsyncs = room, bad_fsyncs
        self._write, self._fsync = os.write, os.fsync
        monkeypatch.setattr("torc_supervise.store.journal.os.write", self.write)
        monkeypatch.setattr("torc_supervise.store.journal.os.fsync", self.fsync)

    def write(self, file: int, data: memoryview) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        written = self._write(file, data[: min(self.room, 7)])  # in small pieces, as a network may
        self.room -= written
        return written

    def fsync(self, file: int) -> None:
        if self.bad_fsyncs > 0:
            self.bad_fsyncs -= 1
            raise OSError(errno.EIO, "input/output error")
        self._fsync(file)


@pytest.mark.parametrize("room", [0, 1, 7, 50, 200])
def test_p9_a_full_disk_loses_doubles_and_tears_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    writer = Journal(str(path))
    disk = FullDisk(monkeypatch, room)
    batch = b"".join(map(line, range(2, 9)))
    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            writer.append(batch)
        assert 1 in numbers(path), "what was durable stays readable"
    disk.room = 10**6
    writer.append(batch)
    writer.append(line(9))
    writer.close()
    assert numbers(path) == list(range(1, 10))


def test_p9_a_failed_fsync_does_not_count_and_the_lines_are_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Journal(str(path))
    before = writer.committed
    FullDisk(monkeypatch, 10**6, bad_fsyncs=1)
    with pytest.raises(OSError, match="input/output"):
        writer.append(line(2))
    assert writer.committed == before
    writer.append(line(2))
    assert writer.committed == path.stat().st_size
    writer.close()
    assert numbers(path) == [1, 2]


def test_control_without_the_cut_a_partial_write_would_tear_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Journal(str(path))
    disk = FullDisk(monkeypatch, 10)
    with pytest.raises(OSError, match="no space"):
        writer.append(line(2))
    disk.room = 10**6
    writer._dirty, writer.committed = False, path.stat().st_size
    writer.append(line(2))
    writer.close()
    with pytest.raises(JournalError):
        numbers(path)


def test_lines_of_another_writer_are_never_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers should not be; if they are, the one that finds out stops, and the file stays readable."""
    writer = Journal(str(path))
    disk = FullDisk(monkeypatch, 10)
    with pytest.raises(OSError, match="no space"):
        writer.append(line(2))
    disk.room = 10**6
    other = Journal(str(path))
    other.append(line(2))
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(OSError, match="somebody else"):
            writer.append(line(2))
    assert path.read_bytes() == before
    other.append(line(3))
    assert numbers(path) == [1, 2, 3]
    for each in (writer, other):
        each.close()


def test_p9_dev_full_is_an_oserror_that_may_be_tried_again(path: Path) -> None:
    writer = Journal(str(path))
    good, full = os.dup(writer._file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file)
    with pytest.raises(OSError) as caught:
        writer.append(line(2))
    assert caught.value.errno == errno.ENOSPC
    os.dup2(good, writer._file)
    writer.append(line(2))
    for descriptor in (good, full):
        os.close(descriptor)
    writer.close()
    assert numbers(path) == [1, 2]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 400), st.booleans()), max_size=8))
def test_p9_any_sequence_of_full_disks_and_crashes_leaves_all_lines_once_and_in_order(
    story: list[tuple[int, int, bool]],
) -> None:
    """Each step: how many lines, how much room for the first try, and whether the writer dies after it."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        path = Path(directory) / "events.jsonl"
        journal.create(str(path), FIRST, "t1", 1.0)
        disk = FullDisk(patch, 10**6)
        writer, seq = Journal(str(path)), 1
        for count, room, dies in story:
            batch = [line(n) for n in range(seq + 1, seq + 1 + count)]
            disk.room = room
            try:
                writer.append(b"".join(batch))
            except OSError:
                disk.room = 10**6
                if dies:  # a new keeper is given what the old one did not confirm
                    writer.close()
                    writer = Journal(str(path))
                    on_disk = writer.last_seq()
                    batch = batch[on_disk - seq :]
                writer.append(b"".join(batch))
            seq += count
        writer.close()
        assert numbers(path) == list(range(1, seq + 1))


def test_only_whole_appends_are_seen_by_a_reader_of_the_same_moment(path: Path) -> None:
    """A reader never needs the lock: it sees a prefix."""
    writer = Journal(str(path))
    seen: list[list[int]] = []
    look: Callable[[], None] = lambda: seen.append(numbers(path))  # noqa: E731
    for n in range(2, 6):
        writer.append(line(n))
        look()
    writer.close()
    assert seen == [list(range(1, n + 1)) for n in range(2, 6)]
