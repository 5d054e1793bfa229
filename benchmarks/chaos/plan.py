"""Plan: what is to happen in a round, made of a seed and nothing else."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.rounds import PARTS

CHILD = Path(__file__).with_name("child.py")

GRACE = 60.0
"""Seconds that a job gets whose checkpoints are checked."""

SAVES_WITHIN = 1.0
"""Seconds that saving takes such a job at most.  The difference is for a machine that is busy."""

SIGNALS = ("TERM", "INT", "HUP", "USR1")

Script = dict[str, Any]
"""What ``child.py`` does."""


@dataclass(frozen=True)
class Job:
    """``checked``: what it begins to save must be saved, and nobody kills it without having asked."""

    name: str
    script: Script
    checked: bool
    supports_termination: bool
    lead: float  # seconds, sigterm_lead_seconds
    scope: str  # signal_scope
    under_shell: bool  # the shell stays beside it, and is the leader
    depends_on: tuple[str, ...]

    @property
    def fails(self) -> bool:
        return bool(self.script["code"])

    def to_dict(self) -> dict[str, Any]:
        child = shlex.join([sys.executable, "-I", "-S", str(CHILD), json.dumps(self.script)])
        return {
            "name": self.name,
            "command": f"{child}; exit $?" if self.under_shell else child,
            "supports_termination": self.supports_termination,
            "sigterm_lead_seconds": self.lead,
            "signal_scope": self.scope,
            "depends_on": list(self.depends_on),
        }


@dataclass(frozen=True)
class Blow:
    """What is done to parts of the supervisor, ``after`` seconds; KILL, STOP, or a signal to the parent.

    ``stopped``: seconds until what was stopped gets its SIGCONT.  ``to_group``: the signal goes to keeper and sampler
    as well, as Slurm sends it.
    """

    after: float
    act: str
    parts: tuple[str, ...]
    stopped: float = 0.0
    to_group: bool = False

    def __str__(self) -> str:
        whom = "+".join(self.parts) + (" and its group" if self.to_group else "")
        how_long = f" for {self.stopped:.2f} s" if self.act == "STOP" else ""
        return f"{self.after:.2f} s {self.act} {whom}{how_long}"


@dataclass(frozen=True)
class Leg:
    """One run of the supervisor, with its blows.  ``from_start``: counted from its first instruction."""

    blows: tuple[Blow, ...]
    from_start: bool
    asks_status: bool  # somebody looks meanwhile


@dataclass(frozen=True)
class Plan:
    """A workflow, and the legs that it is attacked in; one more leg, that nobody attacks, completes it."""

    jobs: tuple[Job, ...]
    sampled: bool
    hide_cgroups: bool
    at_a_time: int
    legs: tuple[Leg, ...]

    @property
    def hurries(self) -> bool:
        """A second SIGINT kills at once, so nothing can be said of checkpoints."""
        return any(sum(blow.act == "INT" for blow in leg.blows) > 1 for leg in self.legs)

    def workflow(self) -> dict[str, Any]:
        return {
            "name": "chaos",
            "jobs": [job.to_dict() for job in self.jobs],
            "resource_monitor": {"enabled": self.sampled, "sample_interval_seconds": 0.2},
        }

    def expected(self) -> dict[str, str]:
        """What each job comes to in the end, whatever happens in between: name -> status."""
        status: dict[str, str] = {}
        for job in self.jobs:  # each comes after those that it depends on
            if any(status[name] != "completed" for name in job.depends_on):
                status[job.name] = "canceled"
            else:
                status[job.name] = "failed" if job.fails else "completed"
        return status


def make(chance: Random) -> Plan:
    jobs: list[Job] = []
    for number in range(chance.randint(4, 12)):
        jobs.append(_job(chance, f"j{number}", jobs))
    sampled = chance.random() < 0.7
    return Plan(
        tuple(jobs),
        sampled=sampled,
        hide_cgroups=chance.random() < 0.6,
        at_a_time=chance.choice((1, 2, 4, 20)),
        legs=tuple(_leg(chance, sampled) for _ in range(chance.choice((1, 1, 2, 3)))),
    )


def _job(chance: Random, name: str, before: list[Job]) -> Job:
    kind = chance.choices(("saves", "saves too slowly", "ignores", "dies"), (5, 1, 2, 4))[0]
    script: Script = {
        "on_term": {"ignores": "ignore", "dies": "die"}.get(kind, "save"),
        "seconds": _seconds(chance),
        "code": 0 if chance.random() < 0.9 else chance.choice((1, 3, -9, -11)),
        "saves_in": 3.0 if kind == "saves too slowly" else _saves_in(chance),
        "family": [],
    }
    if chance.random() < 0.4:
        script["family"] = [_relative(chance, kind) for _ in range(chance.randint(1, 2))]
    leader_only = kind == "saves" and not script["family"] and chance.random() < 0.15
    return Job(
        name,
        script,
        checked=kind == "saves",
        supports_termination=kind.startswith("saves") or chance.random() < 0.6,
        lead=GRACE if kind == "saves" else round(chance.uniform(0.2, 1.0), 2),
        scope="leader" if leader_only else "group",
        under_shell=not leader_only and chance.random() < 0.3,
        depends_on=(chance.choice(before).name,) if before and chance.random() < 0.4 else (),
    )


def _relative(chance: Random, kind: str) -> Script:
    """A process that a job forks and does not wait for.  None is deaf for long, so rounds stay short."""
    on_term = chance.choice(("save", "save", "die", "ignore") if kind == "saves" else ("die", "ignore"))
    patient = on_term != "ignore" and chance.random() < 0.4
    return {
        "how": chance.choice(("child", "setsid", "daemon")),
        "on_term": on_term,
        "seconds": 1000.0 if patient else _seconds(chance),
        "saves_in": _saves_in(chance),
    }


def _seconds(chance: Random) -> float:
    return 0.0 if chance.random() < 0.1 else round(chance.uniform(0.0, 1.5), 3)


def _saves_in(chance: Random) -> float:
    return round(chance.uniform(0.0, SAVES_WITHIN), 3)


def _leg(chance: Random, sampled: bool) -> Leg:
    return Leg(
        tuple(_blow(chance, PARTS if sampled else PARTS[:2]) for _ in range(chance.choice((1, 1, 2, 3, 4)))),
        from_start=chance.random() < 0.15,
        asks_status=chance.random() < 0.2,
    )


def _blow(chance: Random, there: tuple[str, ...]) -> Blow:
    act = chance.choices(("KILL", "STOP", "signal"), (5, 3, 2))[0]
    after = round(chance.choice((0.0, chance.uniform(0.0, 0.1), chance.uniform(0.0, 1.0))), 3)
    if act == "signal":
        return Blow(after, chance.choice(SIGNALS), ("parent",), to_group=chance.random() < 0.3)
    parts = chance.sample(there, min(len(there), chance.choices((1, 2, 3), (70, 25, 5))[0]))
    return Blow(after, act, tuple(parts), stopped=round(chance.uniform(0.02, 1.5), 2))
