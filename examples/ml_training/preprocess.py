#!/usr/bin/env python3
"""Makes the dataset: points of two overlapping classes, split into a training and a test part.

Shows a job that needs no signal handler (``supports_termination: false``).  It is short and its output
appears only as a whole, so that it may be killed at any time: it is run again and makes the very same file.
"""

import argparse
import random
from pathlib import Path

from graceful import say, write_json_atomically

FEATURES = 3
TEST_SHARE = 0.25


def make_rows(count: int, seed: int) -> list[list[float]]:
    """Rows of ``FEATURES`` numbers and a label, 0 or 1."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.randrange(2)
        rows.append([rng.gauss(1.0 if label else -1.0, 1.5) for _ in range(FEATURES)] + [float(label)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the dataset of the training example.")
    parser.add_argument("--dataset", type=Path, default=Path("output/dataset.json"), help="the file to write")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    rows = make_rows(args.rows, args.seed)
    split = int(len(rows) * TEST_SHARE)
    write_json_atomically(args.dataset, {"train": rows[split:], "test": rows[:split]})
    say(f"wrote {args.dataset}: {len(rows) - split} rows to train on, {split} to test with")


if __name__ == "__main__":
    main()
