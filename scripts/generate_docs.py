#!/usr/bin/env python3
"""Write docs/states.md from the tables of the machine.

    python scripts/generate_docs.py           writes it
    python scripts/generate_docs.py --check   exits 1 if it differs

The transitions are found by trying: every phase, in several forms, is given every event, in several forms, before and
after its deadline.  So the diagram shows what ``step`` does, not what somebody once meant it to do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from signal import SIGTERM

from msgspec.structs import replace

from torc_supervise.exitstatus import Exited, Signaled
from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine.status import SETTLED, Ended, RunState, Status, StopReason
from torc_supervise.machine.step import (
    HANDLED,
    IGNORED,
    LEFTOVER_GRACE,
    UNKILLABLE_AFTER,
    VERIFY_AT_MOST,
    step,
)

STATES = Path(__file__).resolve().parent.parent / "docs" / "states.md"
NOW, PGID = 100.0, 7

STATUS_MEANING = {
    Status.UNINITIALIZED: "was reset, or is new in a replaced specification; waits for `reinitialize`",
    Status.BLOCKED: "waits for jobs that it depends on",
    Status.READY: "starts as soon as there is room for it, and time",
    Status.PENDING: "Torc's name for claimed and not yet started; not used here",
    Status.RUNNING: "has processes, or its files are being looked at",
    Status.COMPLETED: "exited 0 by itself, and its declared output files are there",
    Status.FAILED: "exited otherwise by itself, lacks an output file, could not be started, or broke its memory limit",
    Status.CANCELED: "the workflow was canceled while it ran, or a job that it depends on failed or was canceled",
    Status.TERMINATED: "was asked to end: by a signal, the end of the allocation, or its own runtime limit",
    Status.DISABLED: "never runs; not used here",
    Status.PENDING_FAILED: "Torc's name for a failure that waits for a decision; not used here",
}
ENDED_MEANING = {
    Ended.EXITED: "by itself",
    Ended.IN_GRACE: "it was asked to end and did so before its deadline",
    Ended.KILLED: "SIGKILL was needed, or was all it could be sent",
    Ended.UNKILLABLE: "it was still there a while after SIGKILL; we stopped waiting",
    Ended.LOST: "its supervisor died with it, or Slurm ended its job step, and nobody saw the exit status",
    Ended.NOT_STARTED: "it could not be started, by its own fault",
}
RUN_STATE_MEANING = {
    RunState.READY: "no run is going on, and none has left anything terminated",
    RunState.RUNNING: "a supervisor works on it",
    RunState.TERMINATING: "a supervisor works on it and was asked to end",
    RunState.COMPLETED: "every job is completed",
    RunState.FAILED: "nothing is left to run, and some job failed or was canceled",
    RunState.TERMINATED: "a run stopped early; `run` or `submit` goes on",
    RunState.CANCELED: "somebody canceled it",
}


def sample_phases() -> list[p.Phase]:
    """Every phase in the forms that make a difference to ``step``."""
    can = p.Policy(SIGTERM, supports_termination=True)
    policies = [can, p.Policy(SIGTERM), replace(can, verify=True)]
    outcome = p.Outcome(Exited(0), 90.0)
    why = StopReason.SIGNAL
    found: list[p.Phase] = []
    for policy in policies:
        found += [
            p.Starting(policy),
            p.Running(policy, PGID, 10.0),
            p.Running(policy, PGID, 10.0, ask_at=NOW, ask_kill_at=NOW + 30),
            p.Terminating(policy, PGID, 10.0, 90.0, NOW, why),
            p.Terminating(policy, PGID, 10.0, 90.0, NOW, why, Signaled(SIGTERM), 1),
            p.Killing(policy, PGID, 10.0, NOW, why),
            p.Killing(policy, PGID, 10.0, NOW, why, Exited(0), 1),
            p.Lingering(policy, PGID, 10.0, Exited(0), 1, NOW),
            p.Lingering(policy, PGID, 10.0, Exited(0), 1, p.NEVER, NOW),
            p.Reaping(policy, 10.0, outcome),
        ]
    return [*found, p.Verifying(10.0, outcome, NOW), p.Abandoned(PGID), p.Finished(), p.PutBack()]


def sample_events() -> list[e.Event]:
    return [
        e.Spawned(PGID),
        e.SpawnRefused(11),
        e.SpawnFailed(2, "not found"),
        e.LeaderExited(Exited(0), 0),
        e.LeaderExited(Signaled(SIGTERM), 2),
        e.GroupChanged(0),
        e.GroupChanged(1),
        e.Reaped(None),
        e.StopAsked(StopReason.SIGNAL, NOW + 30),
        e.KillAsked(StopReason.SIGNAL),
        e.CancelNoted(),
        e.LeavingAsked(NOW + 30),
        e.EndMoved(NOW, StopReason.WALL_TIME, NOW + 30, 30.0),
        e.ClockReached(),
        e.Verified(),
    ]


def transitions() -> dict[tuple[str, str], list[str]]:
    """(from, to) -> events that lead there, all by name; only where the phase changes."""
    found: dict[tuple[str, str], list[str]] = {}
    for phase, event, now in product(sample_phases(), sample_events(), (NOW - 1, NOW)):
        after, _ = step(phase, event, now)
        if type(after) is not type(phase):
            names = found.setdefault((type(phase).__name__, type(after).__name__), [])
            if type(event).__name__ not in names:
                names.append(type(event).__name__)
    order = [cls.__name__ for cls in p.PHASES]
    events = [cls.__name__ for cls in e.EVENTS]
    return {
        key: sorted(found[key], key=events.index)
        for key in sorted(found, key=lambda pair: (order.index(pair[0]), order.index(pair[1])))
    }


def first_paragraph(thing: object) -> str:
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows)]


def states() -> str:
    """The whole of docs/states.md."""
    moves = transitions()
    lines = [
        "# States",
        "",
        "Generated from the tables in `torc_supervise/machine/step.py` by `scripts/generate_docs.py`; a test fails",
        "when the two differ.  Change the tables, then run the script.",
        "",
        "An *attempt* of a job goes through phases, in memory; a *job* has a status, in the journal.",
        "",
        "## Phases of an attempt",
        "",
        *table(("phase", "what it is"), [(f"`{c.__name__}`", first_paragraph(c)) for c in p.PHASES]),
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> Starting",
        *(f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in moves.items()),
        "    Finished --> [*]",
        "    PutBack --> [*]",
        "```",
        "",
        f"After SIGKILL a group is waited for {UNKILLABLE_AFTER:.0f} s (P12).  What a job leaves behind when it exits",
        f"by itself gets {LEFTOVER_GRACE:.0f} s between the termination signal and SIGKILL.  Declared files are waited",
        f"for {VERIFY_AT_MOST:.0f} s at most, and less where the supervisor wants to leave.",
        "",
        "## Events",
        "",
        *table(("event", "what it says"), [(f"`{c.__name__}`", first_paragraph(c)) for c in e.EVENTS]),
        "",
        "## What each phase acts on",
        "",
        *table(("phase", "events"), _handled()),
        "",
        "## What each phase ignores, and why",
        "",
        "Silence is a decision: each pair of phase and event is either above or here.",
        "",
        *table(("phase", "reason", "events"), _ignored()),
        "",
        "## Statuses of a job",
        "",
        *table(("status", "meaning"), [(f"`{s.value}`", STATUS_MEANING[s]) for s in Status]),
        "",
        f"{_listed(s.value for s in Status if s in SETTLED)} settle a job: its dependents look at nothing else.",
        "Dependents start when all that they depend on has completed.  Where something failed or was canceled they are",
        "canceled, or start all the same with `cancel_on_blocking_job_failure: false`.  Dependents of a `terminated`",
        "job stay `blocked`: they never run on half a result.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> blocked",
        "    [*] --> ready",
        "    blocked --> ready: all it depends on has settled",
        "    blocked --> canceled: something it depends on failed",
        "    ready --> running: started",
        "    ready --> failed: cannot be started",
        "    running --> completed",
        "    running --> failed",
        "    running --> terminated: asked to end",
        "    running --> canceled: the workflow was canceled",
        "    terminated --> ready: reinitialize",
        "    canceled --> blocked: reinitialize",
        "    failed --> uninitialized: reset",
        "    uninitialized --> blocked: reinitialize",
        "    uninitialized --> ready: reinitialize",
        "```",
        "",
        "## How an attempt ended",
        "",
        *table(("`ended`", "meaning"), [(f"`{x.value}`", ENDED_MEANING[x]) for x in Ended]),
        "",
        "## What a workflow is doing",
        "",
        *table(("`state`", "meaning"), [(f"`{x.value}`", RUN_STATE_MEANING[x]) for x in RunState]),
        "",
        "It follows from the records alone, so a reader of the journal sees what the supervisor saw.",
    ]
    return "\n".join(lines) + "\n"


def _handled() -> list[tuple[str, ...]]:
    return [
        (
            f"`{phase.__name__}`",
            ", ".join(f"`{event.__name__}`" for event in e.EVENTS if (phase, event) in HANDLED) or "none",
        )
        for phase in p.PHASES
    ]


def _ignored() -> list[tuple[str, ...]]:
    rows = []
    for phase in p.PHASES:
        reasons: dict[str, list[str]] = {}
        for event in e.EVENTS:
            if (phase, event) in IGNORED:
                reasons.setdefault(IGNORED[phase, event], []).append(f"`{event.__name__}`")
        rows += [(f"`{phase.__name__}`", reason, ", ".join(names)) for reason, names in reasons.items()]
    return rows


def _listed(words: Iterable[str]) -> str:
    names = [f"`{word}`" for word in words]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def main(arguments: list[str]) -> int:
    text = states()
    if "--check" in arguments:
        if STATES.read_text(encoding="utf-8") == text:
            return 0
        print(f"{STATES.name} differs from the tables; run scripts/generate_docs.py", file=sys.stderr)
        return 1
    STATES.write_text(text, encoding="utf-8")
    print(f"wrote {STATES}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
