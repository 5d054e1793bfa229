#!/usr/bin/env python3
"""Counts steps, and takes a while to save where it is when SIGTERM comes.

The smallest complete Python job with a checkpoint, in one file: copy it.  ../ml_training/train.py has the
same pattern with more checks and more words.
"""
# ruff: noqa: E402

import signal

_stop_requested = False


def _on_sigterm(signum: int, frame: object) -> None:
    global _stop_requested  # only the flag; the loop acts on it, once
    _stop_requested = True


signal.signal(signal.SIGTERM, _on_sigterm)  # before the other imports, which may take a while

import argparse
import json
import os
import sys
import time
from pathlib import Path


def say(text: str) -> None:
    """Print a line.  The reader of our pipe may have died of the same SIGTERM: save none the less."""
    try:
        print(text, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def load(path: Path) -> int:
    """The step to go on from."""
    try:
        step = json.loads(path.read_bytes())["step"]
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        step = None
    if type(step) is not int or step < 0:
        path.replace(f"{path}.bad")
        say(f"checkpoint {path} is corrupt: set aside as {path}.bad, starting at step 0")
        return 0
    say(f"resumed from step {step}")
    return step


def save(path: Path, step: int, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w") as file:
        time.sleep(seconds)  # a big model; Python sleeps on after a signal (PEP 475)
        json.dump({"step": step}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description="Count steps; on SIGTERM save and end.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seconds-per-step", type=float, default=0.1)
    parser.add_argument("--save-seconds", type=float, default=0.0, help="of the save after SIGTERM")
    args = parser.parse_args()

    step = load(args.checkpoint)
    while step < args.steps and not _stop_requested:
        time.sleep(args.seconds_per_step)  # your work; if a step takes long, look at the flag within it
        step += 1
        say(f"step {step}/{args.steps}")
    if step < args.steps:
        say(f"SIGTERM: saving checkpoint at step {step}")
        save(args.checkpoint, step, args.save_seconds)
        say("SIGTERM: checkpoint saved")
    else:
        save(args.checkpoint, step, 0)
        say(f"complete after {step} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
