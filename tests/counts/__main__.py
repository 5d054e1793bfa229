"""``scripts/counts``: every figure beside its budget."""

from __future__ import annotations

import tempfile
from pathlib import Path

from counts.budgets import BUDGETS
from counts.figures import can_trace, measure


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="counts-") as scratch:
        found = measure(Path(scratch))
        for name, budget in BUDGETS.items():
            if budget.traced and not can_trace():
                print(f"{name:24} budget {budget.most:8.1f}   not counted: strace is missing or not let")
                continue
            value = found[name]()
            print(
                f"{name:24} budget {budget.most:8.1f}   now {value:8.1f}   {value / budget.most:4.0%}   {budget.what}"
            )


main()
