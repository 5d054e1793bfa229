"""Signals that come again and again: nothing is left out, and the journal stays short."""

from __future__ import annotations

from itertools import pairwise
from signal import SIGINT, SIGTERM

from hypothesis import given
from hypothesis import strategies as st

from support.replaying import NEVER, Program, World, job
from torc_supervise.machine import records as r
from torc_supervise.machine.repeats import QUIET_AFTER, Repeats

DEAF = Program(seconds=NEVER, ignores=True)


def test_the_first_is_news_and_the_rest_of_its_second_is_counted() -> None:
    repeats = Repeats()
    assert repeats.is_news("SIGTERM", 10.0)
    assert [repeats.is_news("SIGTERM", 10.0 + i / 10) for i in range(1, 6)] == [False] * 5
    assert repeats.is_news("SIGHUP", 10.3), "each kind by itself"
    assert repeats.due == 10.0 + QUIET_AFTER
    assert repeats.take(10.9) == []
    assert repeats.take(11.0) == [("SIGTERM", 5)]
    assert repeats.due == NEVER


def test_after_a_quiet_second_one_is_news_again() -> None:
    repeats = Repeats()
    assert repeats.is_news("SIGTERM", 10.0)
    assert repeats.is_news("SIGTERM", 11.0)


def test_what_is_counted_at_the_end_of_the_run_is_recorded_too() -> None:
    repeats = Repeats()
    repeats.is_news("SIGTERM", 10.0)
    repeats.is_news("SIGTERM", 10.1)
    assert repeats.take(NEVER) == [("SIGTERM", 1)]
    assert repeats.take(NEVER) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=60))
def test_nothing_is_left_out_and_a_kind_has_a_record_a_second(story: list[tuple[str, float]]) -> None:
    repeats, now, seen = Repeats(), 0.0, dict.fromkeys("ab", 0)
    written: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
    for name, pause in story:
        while repeats.due <= now + pause:  # the loop wakes at every deadline
            at = max(now, repeats.due)
            for kind, count in repeats.take(at):
                written[kind].append((at, count))
        now += pause
        seen[name] += 1
        if repeats.is_news(name, now):
            written[name].append((now, 1))
    for kind, count in repeats.take(NEVER):
        written[kind].append((now + QUIET_AFTER, count))
    for name, records in written.items():
        assert sum(count for _, count in records) == seen[name]
        times = [at for at, _ in records]
        assert all(b - a >= QUIET_AFTER - 1e-9 for a, b in pairwise(times))


def test_p1_a_storm_of_signals_is_one_record_a_second_with_a_count() -> None:
    world = World(job(1), programs={1: DEAF}).until(1.0)
    for i in range(1000):
        world.until(1.0 + i / 500)
        world.signal(SIGTERM)
    world.finish()
    records = world.of(r.SignalReceived)
    assert sum(record.count or 1 for record in records) == 1000
    assert len(records) <= 4
    assert len([text for text in world.said if "received again" in text]) <= 2
    assert world.signals(1) == [(1.0, "SIGTERM"), (1.0, "SIGCONT"), (31.0, "SIGKILL")]


def test_a_key_that_is_held_down_kills_and_says_so_once() -> None:
    world = World(job(1), programs={1: DEAF}).until(1.0)
    for i in range(100):
        world.until(1.0 + i / 100)
        world.signal(SIGINT)
    world.finish()
    assert len([text for text in world.said if "killed at once" in text]) == 1
    assert world.signals(1)[-1] == (1.2, "SIGKILL")
