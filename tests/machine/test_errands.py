"""Errands: when they are told what, and that a run neither ends before them nor waits for them where it need not."""

from __future__ import annotations

from signal import SIGTERM

from support.replaying import NEVER, Program, World, job
from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.status import Status


class Diary(Errand):
    """Writes down what it was told."""

    interests = (r.JobEnded,)

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_begin(self, desk: Desk) -> None:
        self.told.append("begin")

    def on_signal(self, desk: Desk, signum: int) -> None:
        self.told.append(f"signal {signum}, ending {desk.ending is not None}")

    def on_record(self, desk: Desk, record: r.Record) -> None:
        assert isinstance(record, r.JobEnded)
        self.told.append(f"{record.job_id} {record.status}")

    def on_ending(self, desk: Desk) -> None:
        assert desk.ending is not None
        self.told.append(f"ending: {desk.ending.why.value}")

    def on_idle(self, desk: Desk) -> None:
        assert desk.nothing_runs
        self.told.append("idle")


class Asks(Errand):
    """Has something slow done before the run may end."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def on_idle(self, desk: Desk) -> None:
        self.busy = True
        desk.do(self, "something", {"x": 1}, once=True)

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        self.busy = False
        self.answers.append(answer)


def test_an_errand_is_told_what_happens_in_its_order() -> None:
    diary = Diary()
    world = World(job(1), programs={1: Program(seconds=NEVER, saves=4.0)}, errands=[diary]).until(1.0)
    world.signal(SIGTERM)
    world.finish()
    assert diary.told == ["begin", "ending: signal", "signal 15, ending True", "1 terminated", "idle"]


def test_the_run_does_not_end_before_an_errand_that_is_busy() -> None:
    asks = Asks()
    world = World(job(1), errands=[asks]).until(50.0)
    assert world.status(1) is Status.COMPLETED
    assert not world.supervision.done
    ((at, chore),) = world.chores
    assert (at - world.start, chore.kind, chore.body, chore.once) == (10.0, "something", {"x": 1}, True)
    world.answer_chore(chore.chore_id, {"ok": True})
    assert world.supervision.done
    assert asks.answers == [{"ok": True}]


def test_an_answer_that_comes_twice_counts_once() -> None:
    asks = Asks()
    world = World(job(1), errands=[asks]).until(50.0)
    for _ in range(2):
        world.answer_chore(1, {"ok": True})
    assert asks.answers == [{"ok": True}]


def test_nothing_starts_while_an_errand_holds_starts() -> None:
    holds = Errand()
    holds.holds_starts = True
    world = World(job(1), errands=[holds]).until(5.0)
    assert world.starts == []
    holds.holds_starts = False
    assert [at - world.start for at, _ in world.finish().starts] == [5.0]
