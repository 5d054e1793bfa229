"""Plans: what happens on a day, drawn from a seed.

A plan is data: it can be printed, pasted into a test, and shrunk.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field
from typing import Any

from simulator.fibers import NEVER
from simulator.programs import Child, Program

Event = tuple[float, str, Any]
"""Seconds after the beginning of the day, what happens, and to whom or for how long."""


PLAIN = Program()


@dataclass(frozen=True)
class JobPlan:
    """Fields of the job, by their names in the workflow model, and its program."""

    fields: dict[str, Any] = field(default_factory=dict)
    program: Program = PLAIN


@dataclass(frozen=True)
class Plan:
    """``seed``: of all that is not in the plan: who of two runs first, how many bytes of a write fit.

    ``fatal``: the system call at which the supervisor dies, 0 for none; ``fatal_keepers``: for each keeper.
    """

    seed: int
    jobs: tuple[JobPlan, ...]
    events: tuple[Event, ...] = ()
    lead: float = 30.0
    time_limit: float | None = None
    headroom: float = 60.0
    num_cpus: int = 4
    refusals: tuple[int | None, ...] = ()  # errno for each spawn in turn
    fatal: int = 0
    fatal_keepers: tuple[int, ...] = ()
    latency: float = 0.0  # of the disk, seconds at most
    signals_first: bool = False


LIVES = (0.0, 0.001, 1.0, 5.0, 12.0, 40.0, 40.0, 100.0, NEVER)
MOMENTS = (0.0, 0.01, 0.5, 1.0, 3.0, 5.0, 10.0, 12.0, 20.0, 30.0, 31.0, 41.0, 60.0, 100.0)
EARLY = (0.0, 0.0, 0.5, 1.0, 2.0)  # while a keeper begins
ENDS = ("dies", "saves", "saves", "ignores", "exits")
SIGNALS = (
    *("signal", "signal", "signal", "signal_again", "two_signals", "signal_and_exit"),
    *("interrupt_twice", "cancel", "move_end"),
)
CRASHES = ("kill_supervisor", "kill_keeper", "kill_keeper", "kill_both", "power_failure", "refuse_forks")
DELAYS = ("freeze_supervisor", "freeze_keeper", "blind", "disk_hangs", "clock_jumps")
DISKS = ("disk_full", "disk_full", "disk_broken", "disk_hangs", "kill_keeper", "freeze_keeper")
JOBS = ("stop_job", "murder_job")
TAKEOVERS = (
    *("open", "open", "open", "kill_supervisor", "kill_both", "kill_keeper"),
    *("disk_hangs", "disk_full", "freeze_keeper"),
)
ENDINGS = ("signal", "signal", "kill_supervisor", "cancel")
THEMES = (
    *(SIGNALS, SIGNALS, ENDINGS, CRASHES, DISKS, TAKEOVERS),
    (*SIGNALS, *CRASHES, *DELAYS, *DISKS, *JOBS, *TAKEOVERS),
)
"""Events of one kind meet each other more often than chance would have it."""


def draw(seed: int, theme: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed; ``theme``: the kinds of its events, () for one by chance."""
    chance = random.Random(seed)
    jobs = tuple(_job(chance, number) for number in range(1, chance.choice((1, 1, 2, 3, 4)) + 1))
    theme = theme or chance.choice(THEMES)
    events = sorted(
        (_event(chance, theme, len(jobs)) for _ in range(chance.choice((0, 1, 2, 2, 3, 5)))),
        key=lambda e: e[0],
    )
    return Plan(
        seed,
        jobs,
        tuple(events),
        lead=chance.choice((30.0, 30.0, 5.0, 0.0)),
        time_limit=chance.choice((None, None, None, 60.0, 200.0, 400.0)),
        headroom=chance.choice((60.0, 10.0)),
        num_cpus=chance.choice((4, 4, 1, 2)),
        refusals=tuple(
            chance.choice((None, None, None, 11, 11, 12, 2)) for _ in range(chance.choice((0, 0, 0, 4)))
        ),
        fatal=chance.randrange(1, 300)
        if chance.random() < (0.6 if theme in (CRASHES, TAKEOVERS) else 0.1)
        else 0,
        fatal_keepers=_fatal_keepers(chance),
        latency=chance.choice((0.0, 0.0, 0.01, 0.5)),
        signals_first=chance.random() < 0.3,
    )


def _fatal_keepers(chance: random.Random) -> tuple[int, ...]:
    if chance.random() < 0.05:
        return tuple(chance.randrange(1, 30) for _ in range(30))  # no keeper is of any use
    some = chance.choice((0, 0, 0, 1, 2, 4))
    return tuple(chance.choice((0, 0, chance.randrange(1, 150))) for _ in range(some))


def _job(chance: random.Random, number: int) -> JobPlan:
    fields: dict[str, Any] = {"supports_termination": chance.random() < 0.7}
    depends_on = tuple(other for other in range(1, number) if chance.random() < 0.25)
    if depends_on:
        fields["depends_on"] = depends_on
    if chance.random() < 0.2:
        fields["termination_signal"] = chance.choice(("SIGINT", "SIGUSR1"))
    if chance.random() < 0.1:
        fields["signal_scope"] = "leader"
    if chance.random() < 0.2:
        fields["sigterm_lead_seconds"] = chance.choice((1.0, 10.0, 50.0))
    if chance.random() < 0.3:
        fields["checkpoint"] = f"checkpoint-{number}"
    if chance.random() < 0.2:
        fields["runtime"] = chance.choice((3.0, 30.0))
    program = Program(
        seconds=chance.choice(LIVES),
        code=chance.choice((0, 0, 0, 1)),
        on_signal=chance.choice(ENDS),
        saving=chance.choice((0.0, 1.0, 4.0, 20.0, 29.0)),
        saved_code=chance.choice((0, 0, 3)),
        children=tuple(_child(chance) for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3)))),
        stuck_at=chance.choice((*(NEVER,) * 12, 0.5, 5.0)),
        stuck_for=chance.choice((3.0, 20.0, 200.0, NEVER)),
    )
    return JobPlan(fields, program)


def _child(chance: random.Random) -> Child:
    return Child(
        after=chance.choice((0.0, 0.0, 0.01, 0.9, 3.0)),
        seconds=chance.choice(LIVES),
        way=chance.choice(("stays", "stays", "stays", "setsid", "daemon", "wiped")),
        on_signal=chance.choice(("dies", "saves", "ignores")),
    )


def _event(chance: random.Random, theme: tuple[str, ...], jobs: int) -> Event:
    kind = chance.choice(theme)
    moments = EARLY if theme is TAKEOVERS and chance.random() < 0.7 else MOMENTS
    at = chance.choice(moments) + chance.choice((0.0, 0.0, chance.random()))
    argument: Any = None
    match kind:
        case "signal":
            names = ("SIGTERM", "SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGCONT")
            argument = signal.Signals[chance.choice(names)].value
        case "interrupt_twice" | "signal_again":
            argument = chance.choice((0.05, 0.5, 3.0, 20.0))
        case "freeze_supervisor" | "freeze_keeper" | "blind":
            argument = chance.choice((0.5, 5.0, 50.0))
        case "disk_full" | "disk_broken" | "disk_hangs":
            argument = chance.choice((0.5, 5.0, 50.0, 500.0))
        case "refuse_forks":
            argument = chance.choice((1, 5))
        case "open":  # the system call at which whoever opens it is killed, 0 for none
            argument = chance.choice((0, 0, 0, chance.randrange(1, 120)))
        case "move_end":
            argument = chance.choice((None, 0.0, 10.0, 70.0, 100.0, 1000.0))
        case "stop_job" | "murder_job" | "signal_and_exit":
            argument = chance.randint(1, jobs)
        case "clock_jumps":
            argument = chance.choice((-7200.0, -5.0, 5.0, 7200.0))
    return at, kind, argument
