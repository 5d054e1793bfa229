"""Whose a process is, where the order of things or the answers of the kernel are odd (P5, P8)."""

from __future__ import annotations

import threading
from signal import SIGKILL, SIGTERM

import pytest
from msgspec.structs import replace

from torc_supervise.posix import clock, lineage, marks, procfs
from torc_supervise.posix.lineage import Lineage, UnknownYetError
from torc_supervise.posix.marks import Mark
from torc_supervise.posix.procfs import ProcessStat

FIRST, SECOND = 100, 200  # leaders
HERE = 4711  # a process outside of their groups


def process(
    pid: int = HERE, start: int = 50, ppid: int = 1, pgid: int | None = None, state: str = "S"
) -> ProcessStat:
    group = pid if pgid is None else pgid
    return ProcessStat(pid, state, ppid, group, group, start, environment_end=1)


def block(nonce: str, job_id: int = 1, attempt_id: int = 1) -> bytes:
    return f"PATH=/bin\0TORC_RUN_NONCE={nonce}\0TORC_JOB_ID={job_id}\0TORC_ATTEMPT_ID={attempt_id}\0".encode()


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch) -> dict[int, bytes | None]:
    """pid -> what its environment holds; None where it cannot be read now."""
    made: dict[int, bytes | None] = {}
    monkeypatch.setattr(marks, "environment_block", lambda about: made.get(about.pid, b""))
    return made


def two_jobs(*, strangers: bool = False) -> Lineage:
    made = Lineage(strangers=strangers)
    made.add(FIRST, Mark("ours", "1", "1"), 10)
    made.add(SECOND, Mark("ours", "2", "1"), 20)
    return made


def owner(
    of: Lineage, about: ProcessStat, alive: set[int], groups: frozenset[int] = frozenset({FIRST, SECOND})
) -> int | None:
    ((_, found),) = of.sort([about], groups, alive)
    return found


def test_p5_the_mark_tells(environments: dict[int, bytes | None]) -> None:
    environments[HERE] = block("ours", 2)
    assert owner(two_jobs(), process(), {FIRST, SECOND}) == SECOND


@pytest.mark.parametrize(
    ("what", "start"),
    [(block("ours", 2), 19), (block("ours", 2, attempt_id=2), 50), (block("ours", 3), 50)],
    ids=["older than the leader", "another attempt", "a job that is over"],
)
def test_p5_a_mark_without_the_rest_does_not(
    environments: dict[int, bytes | None], what: bytes, start: int
) -> None:
    environments[HERE] = what
    assert owner(two_jobs(), process(start=start), set()) is None


def test_p5_without_a_mark_it_goes_with_the_last_job_it_can_come_from(
    environments: dict[int, bytes | None],
) -> None:
    it = two_jobs()
    assert owner(it, process(), {FIRST, SECOND}) is None
    assert owner(it, process(), {SECOND}) is None
    assert it.signal_for(process(), {FIRST: SIGTERM}) is None
    assert it.signal_for(process(), {FIRST: SIGTERM, SECOND: SIGKILL}) == SIGTERM, "the gentler one"
    it.add(300, Mark("ours", "3", "1"), 60)
    assert owner(it, process(), {300}) == SECOND, "the third started later than it did"
    it.forget(SECOND)
    it.forget(FIRST)
    assert owner(it, process(), {300}) is None
    assert it.is_ours(process())


def test_p5_without_a_mark_it_may_be_a_strangers_where_there_are_strangers(
    environments: dict[int, bytes | None],
) -> None:
    it = two_jobs(strangers=True)
    assert owner(it, process(), set()) is None
    assert not it.is_ours(process())
    environments[HERE + 1] = block("ours", 7)
    assert it.is_ours(process(HERE + 1)), "control"


def test_p5_a_number_that_was_given_again_is_somebody_else(environments: dict[int, bytes | None]) -> None:
    it = two_jobs()
    environments[HERE] = block("ours", 1)
    assert owner(it, process(), {FIRST, SECOND}) == FIRST
    environments[HERE] = b""
    assert owner(it, process(), {FIRST, SECOND}) == FIRST, "control: remembered"
    assert owner(it, process(start=51), {FIRST, SECOND}) is None


def test_p5_ancestry_that_was_seen_is_remembered(environments: dict[int, bytes | None]) -> None:
    it = two_jobs()
    leader, child = process(FIRST, 10), process(HERE, 50, ppid=FIRST)
    grandchild = process(HERE + 1, 51, ppid=HERE)
    seen = dict(it.sort([leader, child, grandchild], {FIRST, SECOND}, {FIRST, SECOND}))
    assert seen == {leader: FIRST, child: FIRST, grandchild: FIRST}
    assert owner(it, replace(grandchild, ppid=1), {SECOND}) == FIRST


def test_p5_what_another_supervisor_sees_to_is_left_out(environments: dict[int, bytes | None]) -> None:
    it = two_jobs()
    environments[HERE] = environments[HERE + 1] = block("theirs")
    tree = [process(FIRST, 10), process(HERE, 50, ppid=FIRST), process(HERE + 1, 51, ppid=HERE)]
    assert [about.pid for about, _ in it.sort(tree, {FIRST, SECOND}, {FIRST, SECOND})] == [FIRST]


def test_p8_an_environment_that_cannot_be_read_is_waited_for_and_not_for_long(
    environments: dict[int, bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    it = two_jobs()
    environments[HERE] = None
    for _ in range(2):
        with pytest.raises(UnknownYetError):
            owner(it, process(), {SECOND})
    now += lineage.UNREADABLE_AFTER
    assert owner(it, process(), {SECOND}) is None
    assert owner(it, process(), set()) == SECOND


# -- reading an environment ---------------------------------------------------------------------------------


def test_p8_a_read_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def hang(pid: int) -> bytes:
        hangs.wait()
        return b""

    monkeypatch.setattr(marks, "read_environment", hang)
    monkeypatch.setattr(marks, "PATIENCE", 0.02)
    assert marks.environment_block(process()) is None
    hangs.set()


def test_p8_a_process_in_uninterruptible_sleep_is_not_read_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pid: int) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr(marks, "_read_with_patience", fail)
    assert marks.environment_block(process(state="D")) is None


def test_a_process_that_is_just_calling_exec_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"", b"", block("ours")]
    monkeypatch.setattr(marks, "_read_with_patience", lambda pid: answers.pop(0))
    monkeypatch.setattr(procfs, "stat", lambda pid: replace(process(), environment_end=0))
    monkeypatch.setattr(procfs, "is_of_our_user", lambda pid: True)
    assert marks.environment_block(process()) == block("ours")


def test_a_process_with_an_empty_environment_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exec may have been over between the two looks; then there is one to be read."""
    answers = [b"", b""]
    monkeypatch.setattr(marks, "_read_with_patience", lambda pid: answers.pop(0))
    monkeypatch.setattr(procfs, "stat", lambda pid: process())
    monkeypatch.setattr(procfs, "is_of_our_user", lambda pid: True)
    assert marks.environment_block(process()) == b""
    assert answers == []


def test_a_process_of_another_user_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b""]
    monkeypatch.setattr(marks, "_read_with_patience", lambda pid: answers.pop(0))
    monkeypatch.setattr(procfs, "stat", lambda pid: replace(process(), environment_end=0))
    monkeypatch.setattr(procfs, "is_of_our_user", lambda pid: False)
    assert marks.environment_block(process()) == b""


def test_a_mark_is_read_from_an_environment() -> None:
    assert marks.parse(block("n", 3, 4)) == Mark("n", "3", "4")
    assert marks.parse(b"PATH=/bin\0XTORC_RUN_NONCE=x\0") is None
    assert marks.parse(b"") is None
