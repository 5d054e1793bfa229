#!/usr/bin/env python3
"""One point of the sweep: fits a line to noisy data by gradient descent, and writes how well that went.

Shows a job that is too short to be worth a checkpoint.  It has no signal handler; its result appears only as
a whole, so that a killed job leaves nothing that the collecting job could mistake for a result.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

SLOPE, OFFSET, NOISE = 2.0, -1.0, 0.3
POINTS, STEPS = 200, 100


def fit(learning_rate: float, seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    xs = [rng.uniform(-1.0, 1.0) for _ in range(POINTS)]
    ys = [SLOPE * x + OFFSET + rng.gauss(0.0, NOISE) for x in xs]
    slope = offset = loss = 0.0
    for _ in range(STEPS):
        errors = [slope * x + offset - y for x, y in zip(xs, ys, strict=True)]
        loss = sum(e * e for e in errors) / POINTS
        slope -= learning_rate * sum(e * x for e, x in zip(errors, xs, strict=True)) / POINTS
        offset -= learning_rate * sum(errors) / POINTS
    return {"learning_rate": learning_rate, "seed": seed, "slope": slope, "offset": offset, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one point of the sweep.")
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="to wait, in place of a fit that takes long"
    )
    args = parser.parse_args()

    result = fit(args.learning_rate, args.seed)
    time.sleep(args.seconds)  # a bigger model
    args.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.output.with_name(f".{args.output.name}.tmp")
    with open(temporary, "w") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(args.output)  # atomic: the same directory, so the same file system
    print(f"learning rate {args.learning_rate:g}, seed {args.seed}: loss {result['loss']:.4f}")


if __name__ == "__main__":
    main()
