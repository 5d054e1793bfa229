#!/usr/bin/env python3
"""Collects the results of the sweep in one table, and names the learning rate with the smallest mean loss."""

import argparse
import csv
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean


def main() -> int:
    parser = argparse.ArgumentParser(description="Collect the results of the sweep.")
    parser.add_argument("results", type=Path, help="directory of the result files")
    parser.add_argument("summary", type=Path, help="the file to write")
    args = parser.parse_args()

    rows = [json.loads(path.read_bytes()) for path in sorted(args.results.glob("lr*.json"))]
    if not rows:
        print(f"error: no results in {args.results}", file=sys.stderr)
        return 1

    args.summary.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.summary.with_name(f".{args.summary.name}.tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(args.summary)

    losses = defaultdict(list)
    for row in rows:
        losses[row["learning_rate"]].append(row["loss"])
    best = min(losses, key=lambda rate: mean(losses[rate]))
    print(
        f"{len(rows)} results in {args.summary}; best learning rate {best:g}, loss {mean(losses[best]):.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
