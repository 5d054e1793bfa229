"""The simulator finds what it is there for: every mutant within a bounded number of days."""

from __future__ import annotations

import pytest

from simulator.days import days_until_found
from simulator.mutants import MUTANTS, Mutant

AT_MOST = 1500  # days; most need less than fifty


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds(mutant: Mutant) -> None:
    found = days_until_found(mutant.patches, mutant.theme, AT_MOST)
    assert found is not None, f"nobody has noticed that {mutant.name} ({mutant.promise})"


def test_there_are_mutants_for_the_promises_that_can_be_seen_from_outside() -> None:
    assert len(MUTANTS) >= 20
    promises = {mutant.promise for mutant in MUTANTS}
    assert promises == {f"P{number}" for number in range(1, 15)}
