"""No job takes more work than its budget, and none takes more because there are many.  Nothing here is timed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from counts.budgets import BUDGETS
from counts.figures import calls_in_the_core, can_trace, measure

Figures = dict[str, Callable[[], float]]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return measure(tmp_path_factory.mktemp("counts"))


@pytest.mark.process
@pytest.mark.parametrize("name", BUDGETS)
def test_the_work_is_within_its_budget(name: str, figures: Figures) -> None:
    budget = BUDGETS[name]
    if budget.traced and not can_trace():
        assert "CI" not in os.environ or shutil.which("strace"), "scripts/install-strace installs it"
        pytest.skip("strace is missing (scripts/install-strace) or not let")
    taken = figures[name]()
    assert taken <= budget.most, (
        f"{budget.what}: {taken:.1f}, and {budget.most:g} was the budget.  To find out why: {budget.advice}.  If it "
        "has to be, change the budget in tests/counts/budgets.py and say why in the commit; scripts/counts prints all"
    )


@pytest.mark.process
@pytest.mark.parametrize("name", [name for name, budget in BUDGETS.items() if not budget.traced])
def test_a_budget_is_not_so_wide_that_it_would_catch_nothing(name: str, figures: Figures) -> None:
    """Control: work that grows by a third is noticed.

    (What strace counts depends on the machine: without cgroups it is less.)
    """
    assert figures[name]() >= BUDGETS[name].most * 0.75, (
        "tighten it: scripts/counts prints the present figures"
    )


def test_a_job_costs_the_same_work_among_20000_as_among_1000() -> None:
    few, many = calls_in_the_core(1_000), calls_in_the_core(20_000)
    assert many == pytest.approx(few, rel=0.10), "calls of functions a job in the pure core"
