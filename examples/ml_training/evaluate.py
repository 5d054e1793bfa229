#!/usr/bin/env python3
"""Measures the trained model on the test rows, and writes the metrics.

Shows a job that supports termination but has nothing to save: on SIGTERM it ends at once, leaves no file
behind and says by its exit code that it is not done.  The next run starts it over.
"""
# ruff: noqa: E402

import signal

_stop_requested = False


def _on_sigterm(signum: int, frame: object) -> None:
    global _stop_requested  # only the flag: see train.py
    _stop_requested = True


signal.signal(signal.SIGTERM, _on_sigterm)  # before the other imports: see train.py

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

from graceful import say, write_json_atomically
from model import mean_loss, predict

EXIT_TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    parser = argparse.ArgumentParser(description="Evaluate the model that train.py wrote.")
    parser.add_argument("--dataset", type=Path, default=Path("output/dataset.json"), help="of preprocess.py")
    parser.add_argument("--model", type=Path, default=Path("output/model.json"), help="of train.py")
    parser.add_argument("--metrics", type=Path, default=Path("output/metrics.json"), help="the file to write")
    parser.add_argument("--seconds", type=float, default=0.0, help="slows the evaluation down")
    args = parser.parse_args()

    try:
        data = args.dataset.read_bytes()
    except FileNotFoundError:
        say(f"error: there is no {args.dataset}: run preprocess.py first")
        return 1
    try:
        model = json.loads(args.model.read_bytes())
    except FileNotFoundError:
        say(f"error: there is no {args.model}: training is not complete, run train.py until it is")
        return 1
    if model["dataset"] != hashlib.sha256(data).hexdigest():
        say(f"error: {args.model} was trained with another dataset than {args.dataset}: run train.py again")
        return 1

    rows = json.loads(data)["test"]
    correct = 0
    for *features, label in rows:
        if _stop_requested:
            say("SIGTERM: nothing to save, the evaluation starts over next time")
            return EXIT_TERMINATED
        correct += (predict(model["weights"], features) > 0.5) == (label == 1.0)
        time.sleep(args.seconds / len(rows))
    metrics = {
        "accuracy": correct / len(rows),
        "loss": mean_loss(rows, model["weights"]),
        "epochs": model["epochs"],
        "rows": len(rows),
    }
    write_json_atomically(args.metrics, metrics)
    say(f"accuracy {metrics['accuracy']:.3f} on {len(rows)} rows after {model['epochs']} epochs")
    say(f"wrote {args.metrics}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
