"""The end watch: what Slurm answers, and what follows for jobs (DESIGN section 4; P6, P13)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from signal import SIGTERM, SIGUSR1
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fingerprints import fingerprint
from support.replaying import NEVER, ExecutionConfig, Program, World, job
from torc_supervise.machine import end_watch
from torc_supervise.machine import records as r
from torc_supervise.machine.end_watch import EndWatch, KnownEnd, margin
from torc_supervise.workflow.signals import SignalSpec

START = 1000.0  # of the worlds, monotonic
EPOCH_AHEAD = 1_700_000_000.0
DEAF = Program(seconds=NEVER, ignores=True)
KILL_WAIT = 30.0


def iso(epoch: float) -> str:
    return f"{epoch - EPOCH_AHEAD - START:g}"  # seconds after the start, in the place of a date


def watch(end: float | None, *, limit: float = NEVER, **options: Any) -> EndWatch:
    """``end`` and ``limit``: seconds after the start."""
    known = None if end is None else KnownEnd(EPOCH_AHEAD + START + end, START + end)
    options = {"asked": True, "kill_wait": KILL_WAIT} | options
    return EndWatch("7", known, begun=START, epoch_ahead=EPOCH_AHEAD, iso=iso, limit=START + limit, **options)


class Allocation(World):
    """A world in an allocation of 3600 s; ``slurm`` answers the questions that are open."""

    def __init__(self, *jobs: Any, end: float | None = 3600.0, known: bool = True, **options: Any) -> None:
        watching = {x: options.pop(x) for x in ("warned_by", "asked", "kill_wait") if x in options}
        super().__init__(
            *jobs,
            end=end if known else None,
            errands=[watch(end if known else None, **watching)],
            **options,
        )
        self.answered = 0

    @property
    def questions(self) -> list[tuple[float, dict[str, Any]]]:
        """(seconds after the start, body) of all chores."""
        return [(at - self.start, chore.body) for at, chore in self.chores]

    def slurm(
        self,
        state: str | None = "RUNNING",
        end: float | None = 3600.0,
        *,
        ok: bool = True,
        offset: float = 0.0,
        clock: float = 0.0,
        kill_wait: float | None = None,
    ) -> None:
        """Slurm answers the oldest open question now.  ``clock``: how far our wall clock is off."""
        _, chore = self.chores[self.answered]
        self.answered += 1
        answer: dict[str, Any] = {
            "ok": False,
            "message": "Unable to contact slurm controller",
            "kill_wait": None,
        }
        if ok:
            answer = {
                "ok": True,
                "running": state == "RUNNING",
                "state": state,
                "end": None if end is None else EPOCH_AHEAD + self.start + end,
                "epoch": EPOCH_AHEAD + self.now + clock,
                "mono": self.now,
                "boot_offset": offset,
                "kill_wait": kill_wait,
            }
        self.answer_chore(chore.chore_id, answer)
        self.turn()

    @property
    def ends(self) -> list[str | None]:
        return [record.end_time for record in self.of(r.EndChanged)]

    @property
    def killed_at(self) -> float:
        """When the first job got SIGKILL, seconds after the start."""
        (at,) = [at for at, name in self.finish().signals(1) if name == "SIGKILL"]
        return at


# -- following the end ------------------------------------------------------------------------------------------


def test_slurm_is_asked_rarely_and_once_more_before_the_first_job_would_be_asked() -> None:
    world = Allocation(job(1), programs={1: DEAF})
    for at in (600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3450.0):  # 3600 - 60 - 30 - 60
        world.until(at)
        assert [when for when, _ in world.questions][-1] == at
        world.slurm()
    assert world.killed_at == 3540.0
    assert len(world.questions) == 6
    assert world.ends == []


def test_in_a_short_allocation_slurm_is_asked_half_way() -> None:
    world = Allocation(job(1), end=60.0, programs={1: DEAF}).until(19.0)  # asked at 60 - 10 - 30
    assert [at for at, _ in world.questions] == [10.0]


def test_a_longer_limit_lets_jobs_compute_longer() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    assert isinstance(world, Allocation)
    world.slurm(end=7200.0)
    assert world.ends == ["7200"]
    assert any("1:00:00 later than before" in text for text in world.said)
    assert world.finish().signals(1) == [
        (7110.0, "SIGTERM"),
        (7110.0, "SIGCONT"),
        (7140.0, "SIGKILL"),
    ]


def test_a_shorter_limit_ends_them_sooner() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm(end=1800.0)
    assert world.finish().signals(1)[0] == (1710.0, "SIGTERM")
    assert world.killed_at == 1740.0


def test_a_limit_that_is_over_at_once_leaves_half_of_the_time() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm(end=620.0)
    assert any("too short" in text for text in world.said)
    assert 600.0 < world.killed_at < 620.0
    assert world.signals(1)[0][0] >= 600.0


def test_p6_a_grace_that_has_begun_is_not_lengthened_by_a_longer_limit() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(10.0)
    world.signal(SIGTERM)
    world.slurm(end=9000.0)
    assert world.ends == ["9000"]
    assert world.killed_at == 3540.0


def test_a_job_without_a_limit_has_no_end() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm(end=None)
    assert world.ends == [None]
    world.until(1e5)
    assert world.signals(1) == []


def test_the_earlier_of_the_time_limit_and_slurms_end_counts() -> None:
    world = World(job(1), programs={1: DEAF}, end=900.0, errands=[watch(3600.0, limit=900.0)]).until(600.0)
    (_, chore) = world.chores[0]
    answer = {"ok": True, "running": True, "state": "RUNNING", "end": EPOCH_AHEAD + START + 1800.0}
    world.answer_chore(
        chore.chore_id, {**answer, "epoch": EPOCH_AHEAD + 1600.0, "mono": 1600.0, "boot_offset": 0.0}
    )
    assert world.of(r.EndChanged) == []
    assert world.finish().signals(1)[-1] == (840.0, "SIGKILL")


@pytest.mark.parametrize("clock", [-7200.0, 7200.0, 86400.0])
def test_p13_a_wall_clock_that_was_set_moves_nothing(clock: float) -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm(clock=clock)
    assert world.ends == []
    world.until(1200.0)
    world.slurm(end=7200.0, clock=clock)
    assert world.killed_at == 7140.0


def test_p13_time_that_the_host_was_suspended_is_gone() -> None:
    """CLOCK_MONOTONIC stands still then, and Slurm's clock does not."""
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm(offset=1000.0)
    assert world.killed_at == 2540.0


# -- while nobody answers ---------------------------------------------------------------------------------------


def test_an_end_that_nobody_knew_is_asked_for_with_growing_pauses() -> None:
    world = Allocation(job(1), programs={1: DEAF}, known=False, asked=False, kill_wait=None)
    asked = []
    for _ in range(8):
        asked.append(world.questions[-1][0])
        world.slurm(ok=False)
        world.until(world.supervision.next_deadline - world.start)
    assert asked == [0.0, 10.0, 30.0, 70.0, 150.0, 310.0, 630.0, 1230.0]
    assert [code.code for code in world.of(r.Warned)] == ["slurm_unreachable"]
    assert world.questions[-1][1] == {"job_id": "7", "kill_wait": True}
    world.slurm(kill_wait=12.0)
    assert world.ends == ["3600"]
    assert "Slurm answers again" in world.said
    world.until(2000.0)
    assert world.killed_at == 3540.0
    assert world.questions[-1][1] == {"job_id": "7", "kill_wait": False}


# -- what a signal means ----------------------------------------------------------------------------------------


def test_a_warning_leaves_the_time_until_the_end() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(100.0)
    world.signal(SIGUSR1)
    world.slurm()
    assert world.killed_at == 3540.0
    assert world.ends == []


@pytest.mark.parametrize(
    "state", ["CANCELLED", "COMPLETING", "PREEMPTED", "NODE_FAIL", "TIMEOUT", "PENDING", None]
)
def test_a_job_that_slurm_is_ending_is_over_before_its_sigkill(state: str | None) -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(100.0)
    world.signal(SIGTERM)
    world.until(101.0)
    world.slurm(state, None)
    assert world.ends == ["130"]
    assert world.killed_at == 130.0 - margin(KILL_WAIT)
    assert world.result(1).return_code == 152


def test_an_end_that_is_nearer_than_killwait_stays() -> None:
    world = Allocation(job(1), programs={1: DEAF}, kill_wait=100.0).until(600.0)
    world.slurm()
    for at in (1200.0, 1800.0, 2400.0, 3000.0, 3450.0):
        world.until(at)
        world.slurm()
    world.until(3520.0)
    world.signal(SIGTERM)
    world.slurm("CANCELLED", None)
    assert world.ends == []
    assert world.killed_at == 3540.0


def test_repeated_signals_are_one_question_after_the_other_and_change_nothing() -> None:
    world = Allocation(job(1), programs={1: DEAF}).until(100.0)
    for at in (100.0, 100.5, 101.0):
        world.until(at)
        world.signal(SIGTERM)
    assert len(world.questions) == 1
    world.slurm("COMPLETING", None)
    assert len(world.questions) == 2, "the answer may be older than the last signal"
    world.slurm("COMPLETING", None)
    assert world.killed_at == 130.0 - margin(KILL_WAIT)


def test_an_answer_from_before_the_signal_says_nothing_about_it() -> None:
    world = Allocation(job(1), programs={1: DEAF}, asked=False)
    world.until(1.0)
    world.signal(SIGTERM)
    world.slurm()  # to the question that was asked when the run began
    world.slurm("CANCELLED", None)
    assert world.killed_at == 31.0 - margin(KILL_WAIT)


WARNED = SignalSpec("SIGTERM", 300, True)


@pytest.mark.parametrize(
    ("warned_by", "at", "signum", "killed_at"),
    [
        (None, 100.0, SIGTERM, 122.5),  # nobody has asked for a warning: Slurm ends the job
        (WARNED, 100.0, SIGTERM, 122.5),  # much earlier than the warning could come
        (WARNED, 3245.0, SIGTERM, 3540.0),  # Slurm may send it up to a minute early
        (WARNED, 3300.0, SIGTERM, 3540.0),
        (SignalSpec("SIGUSR1", 300, True), 3300.0, SIGTERM, 3322.5),
        (None, 100.0, SIGUSR1, 3540.0),  # Slurm ends no job by this one
    ],
)
def test_a_signal_that_nobody_explains(
    warned_by: SignalSpec | None, at: float, signum: int, killed_at: float
) -> None:
    world = Allocation(job(1), programs={1: DEAF}, warned_by=warned_by)
    while world.questions and world.answered < len(world.questions):
        world.slurm()
    for moment in (600.0, 1200.0, 1800.0, 2400.0, 3000.0):
        if moment < at:
            world.until(moment)
            world.slurm()
    world.until(at)
    world.signal(signum)
    world.until(at + 1.0)
    world.slurm(ok=False)
    assert world.killed_at == killed_at


def test_what_is_over_by_then_is_not_waited_for() -> None:
    world = Allocation(job(1), programs={1: Program(seconds=NEVER, saves=1.0)}).until(100.0)
    world.signal(SIGTERM)
    world.finish()
    assert world.now == START + 101.0
    assert world.result(1).ended == "in_grace"


# -- variables of a job that is over ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, "COMPLETED"])
def test_a_login_shell_that_inherited_the_variables(state: str | None) -> None:
    world = Allocation(job(1), programs={1: DEAF}, asked=False)
    world.slurm(state, None)
    assert [record.code for record in world.of(r.Warned)] == ["no_allocation"]
    assert world.ends == [None]
    world.until(1e5)
    assert world.signals(1) == []


def test_a_job_that_slurm_has_given_up_without_a_word_is_ended() -> None:
    """Its node was out of reach for a while."""
    world = Allocation(job(1), programs={1: DEAF}).until(600.0)
    world.slurm("NODE_FAIL", None)
    assert world.signals(1)[0][0] <= 630.0
    assert world.killed_at == 630.0 - margin(KILL_WAIT)


def test_the_margin_before_slurms_sigkill() -> None:
    assert [margin(wait) for wait in (0.0, 2.0, 5.0, 10.0, 30.0, 600.0)] == [0.0, 1.0, 2.5, 2.5, 7.5, 15.0]


# -- whatever Slurm answers -------------------------------------------------------------------------------------

ANSWERS = st.tuples(
    st.sampled_from(["RUNNING", "RUNNING", "COMPLETING", "CANCELLED", None]),
    st.sampled_from([None, 0.0, 30.0, 100.0, 1000.0, 3600.0, 9000.0]),
    st.booleans(),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "answer", "signal", "pass"]),
        st.sampled_from([0.0, 1.0, 7.0, 400.0]),
        ANSWERS,
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.booleans(), st.booleans())
def test_p6_whatever_slurm_answers_no_grace_is_lengthened_and_the_journal_says_it_all(
    steps: list[tuple[str, float, tuple[str | None, float | None, bool]]], known: bool, deaf: bool
) -> None:
    program = DEAF if deaf else Program(seconds=500.0, saves=3.0)
    world = Allocation(
        job(1),
        job(2, supports_termination=False),
        job(3, depends_on=(1,)),
        programs={1: program},
        known=known,
        asked=known,
        execution=ExecutionConfig(sigkill_headroom_seconds=20.0),
    )
    caps: dict[int, float] = {}
    for what, seconds, (state, end, ok) in steps:
        if world.supervision.done:
            break
        if what == "signal":
            world.signal(SIGTERM)
        elif what == "answer" and world.answered < len(world.chores):
            world.slurm(state, end, ok=ok)
        else:
            world.until(world.now - world.start + seconds)
        for job_id, phase in world.supervision._phases.items():
            if type(phase).__name__ == "Terminating":
                kill_at = phase.kill_at  # type: ignore[union-attr]
                assert kill_at <= caps.get(job_id, NEVER)
                caps[job_id] = kill_at
    if not world.supervision.done:
        world.signal(SIGTERM)
    world.finish(within=50_000.0)
    world.check_books()
    with tempfile.TemporaryDirectory() as directory:
        assert fingerprint(world.replayed(Path(directory))) == fingerprint(world.state)


def test_the_pauses_are_bounded() -> None:
    assert end_watch.ASK_EVERY >= 300.0, "administrators count questions"
    assert end_watch.ANSWER_WITHIN < 30.0
