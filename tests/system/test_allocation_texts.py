"""What status tells people of allocations, whose commands Slurm calls failed, and which were of no use."""

from __future__ import annotations

from typing import Any

import pytest

from torc_supervise_cli.allocations import allocation_text, goes_on, ran_nothing

EARLY, LATE = "2026-01-31T12:00:00.000000Z", "2026-01-31T13:00:00.000000Z"


def row(state: str, **fields: Any) -> dict[str, Any]:
    return {"slurm_job_id": "7", "state": state, "since": LATE, "why": "submit", **fields}


def supervisor(slurm_job_id: str | None, exit_code: int | None, started: str = EARLY) -> dict[str, Any]:
    return {"slurm_job_id": slurm_job_id, "exit_code": exit_code, "started": started}


def test_an_early_stop_is_not_called_a_failure() -> None:
    text = allocation_text(row("ended", slurm_state="FAILED"), supervisor("7", 75))
    assert text == "7 ended (exit code 75, which Slurm calls FAILED) at 2026-01-31 13:00:00 UTC"


def test_how_slurm_ended_it_and_when() -> None:
    ended = row("ended", slurm_state="TIMEOUT", end_time="2026-01-31T14:00:00.000000Z")
    assert allocation_text(ended, supervisor("6", 75)) == "7 ended (TIMEOUT) at 2026-01-31 14:00:00 UTC"


@pytest.mark.parametrize(
    ("state", "head", "nothing"),
    [
        ("ended", None, True),
        ("gone", supervisor("6", 75), True),
        ("ended", supervisor("7", 75), False),
        ("ended", supervisor(None, 75, started="2026-01-31T14:00:00.000000Z"), False),
        ("running", None, False),
        ("canceled", None, False),
    ],
)
def test_an_allocation_that_ran_nothing(state: str, head: dict[str, Any] | None, nothing: bool) -> None:
    assert ran_nothing(row(state), head) is nothing


def test_what_goes_on_by_itself() -> None:
    assert goes_on(row("queued"))
    assert goes_on(row("running"))  # also one that Slurm has started again
    assert not goes_on(row("running", why=None))  # of salloc: somebody has to start the next run in it
    assert not goes_on(row("ended"))
