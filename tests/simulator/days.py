"""Days by the thousand, and what is printed when one of them breaks a rule."""

from __future__ import annotations

import time
from dataclasses import dataclass

from simulator.day import Patch, live
from simulator.fibers import NEVER
from simulator.plan import Plan, draw
from simulator.shrink import describe, shrink

SHOWN = 40  # last lines of the journal and of what was printed


@dataclass
class Tally:
    """``failed``: what was found, with its seed and shortest plan; empty if nothing was."""

    days: int = 0
    events: int = 0
    failed: str = ""


def live_through(seeds: range, events: float = NEVER, seconds: float = NEVER) -> Tally:
    """All seeds, or until so many events have happened or seconds have passed, or until a rule is broken."""
    until = time.monotonic() + seconds
    tally = Tally()
    for seed in seeds:
        report = live(draw(seed))
        tally.days += 1
        tally.events += report.events
        if report.failure is not None:
            tally.failed = explain(draw(seed), report.failure)
            break
        if tally.events >= events or time.monotonic() >= until:
            break
    return tally


def days_until_found(patches: tuple[Patch, ...], theme: tuple[str, ...], at_most: int) -> int | None:
    """How many days it takes to find a deliberate bug; None where it was not found."""
    for seed in range(at_most):
        if live(draw(seed, theme), patches).failure is not None:
            return seed + 1
    return None


def explain(plan: Plan, failure: str) -> str:
    """The seed, the rule, the shortest plan that was found, and how that day went."""
    shortest, failure = shrink(plan, failure, lambda plan: live(plan).failure)
    report = live(shortest)
    journal = report.journal.decode(errors="replace").splitlines()[1:]
    return "\n".join(
        [
            f"seed {plan.seed}: {failure}",
            "",
            "the shortest day that was found (tests/simulator/test_found.py takes it as it is):",
            f"    {describe(shortest)}",
            "",
            "its journal:",
            *(f"    {line}" for line in journal[-SHOWN:]),
            "",
            "what was printed:",
            *(f"    {line}" for line in report.printed[-SHOWN:]),
            "",
            "where the rule was broken:",
            report.where,
        ]
    )
