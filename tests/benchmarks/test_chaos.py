"""What chaos calls a violation, on journals and notes made by hand; a seed says everything that is to happen."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest

from support.sources import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.chaos import plan, play
from benchmarks.chaos.verdict import Verdict
from benchmarks.rounds import Books

SAVES = {"on_term": "save", "seconds": 1.0, "code": 0, "saves_in": 0.1, "family": []}
JOB = plan.Job("j", SAVES, True, True, plan.GRACE, "group", False, ())
PLAN = plan.Plan((JOB,), sampled=False, hide_cgroups=False, at_a_time=1, legs=())

ATTEMPT = {"run_id": 1, "job_id": 1, "attempt_id": 1}
CREATED = {"event": "workflow_created", "workflow": {"jobs": [{"job_id": 1, "name": "j"}]}}
STARTED = {"event": "job_started", **ATTEMPT}
COMPLETED = {"event": "job_ended", "status": "completed", **ATTEMPT}
TERMINATED = {"event": "job_ended", "status": "terminated", **ATTEMPT}


WHO = "j in run 1, attempt 1"
PROCESS = f"{WHO}, leader, pid 7"


def violations(
    *records: dict[str, Any], notes: str, lenient: bool = False, role: str = "leader"
) -> list[str]:
    entries = [{"seq": seq, **record} for seq, record in enumerate((CREATED, *records), 1)]
    ledger = "".join(
        json.dumps({"mono": 1.0, "what": what, "pid": 7, "role": role, "saves_in": 0.1, **ATTEMPT}) + "\n"
        for what in notes.split()
    )
    return Verdict(PLAN, Books(entries), ledger, lenient=lenient).violations()


def test_a_round_in_which_all_went_well() -> None:
    assert violations(STARTED, COMPLETED, notes="ready done") == []


@pytest.mark.parametrize(
    ("records", "notes", "what"),
    [
        ((STARTED,), "ready done", f"no result: {WHO}"),
        ((STARTED, COMPLETED, COMPLETED), "ready done", f"more than one result or start: {WHO}"),
        ((STARTED, STARTED, COMPLETED), "ready done", f"more than one result or start: {WHO}"),
        ((), "ready done", f"not on record: {PROCESS} began"),
        ((STARTED, TERMINATED), "ready asked saved", "j is terminated in the end, not completed"),
        ((STARTED, COMPLETED), "ready asked", f"a checkpoint is lost: {PROCESS} was asked at 1.0"),
        ((STARTED, TERMINATED), "ready", f"a checkpoint is lost: {PROCESS} was killed without being asked"),
        ((STARTED, COMPLETED), "ready asked saved", f"was asked to end, and is completed: {WHO}"),
    ],
)
def test_what_is_wrong_is_said(records: tuple[dict[str, Any], ...], notes: str, what: str) -> None:
    assert what in violations(*records, notes=notes)


@pytest.mark.parametrize(
    ("role", "killed", "lost"),
    [
        ("leader", plan.GRACE, True),
        ("leader", 1.0 + plan.GRACE, False),
        ("member 1", 5.9, True),
        ("member 1", 6.0, False),
    ],
)
def test_what_was_given_its_time_on_a_slow_machine_has_lost_nothing_by_our_fault(
    role: str, killed: float, lost: bool
) -> None:
    asked = {"event": "job_signaled", "signal": "SIGTERM", "mono": 1.0, **ATTEMPT}
    records = (STARTED, asked, asked | {"signal": "SIGKILL", "mono": killed}, TERMINATED)
    found = violations(*records, notes="ready asked", role=role)
    assert any(each.startswith("a checkpoint is lost") for each in found) is lost


def test_with_parent_and_keeper_killed_an_attempt_may_have_come_to_its_own_end_unseen() -> None:
    unsettled = "j is never settled in the end, not completed"
    assert violations(notes="ready done", lenient=True) == [unsettled]
    assert f"not on record: {PROCESS} began" in violations(notes="ready", lenient=True)


def test_a_traceback_is_wrong_unless_the_interpreter_was_interrupted_while_it_started() -> None:
    head, ours = "Traceback (most recent call last):\n", '  File "torc_supervise/loop.py", line 1, in turn\n'
    starts = head + '  File "<frozen site>", line 1, in main\nKeyboardInterrupt'
    imports = head + '  File "torc_supervise_cli/__main__.py", line 3, in <module>\nKeyboardInterrupt'
    bug, interrupted = f"{head}{ours}KeyError: 1", f"{head}{ours}KeyboardInterrupt"
    assert list(play.tracebacks(f"{starts}\nworkflow 1\n{bug}\n{starts}\n{imports}\n{interrupted}\n")) == [
        bug,
        interrupted,
    ]


def test_a_seed_says_everything_that_is_to_happen() -> None:
    assert plan.make(random.Random("1 2")) == plan.make(random.Random("1 2"))
    assert plan.make(random.Random("1 2")) != plan.make(random.Random("1 3"))


def test_what_a_job_comes_to_follows_from_those_before_it() -> None:
    fails = plan.Job("fails", SAVES | {"code": 3}, True, True, plan.GRACE, "group", False, ())
    after = plan.Job("after", SAVES, True, True, plan.GRACE, "group", False, ("fails",))
    made = plan.Plan((fails, after, JOB), sampled=False, hide_cgroups=False, at_a_time=1, legs=())
    assert made.expected() == {"fails": "failed", "after": "canceled", "j": "completed"}
