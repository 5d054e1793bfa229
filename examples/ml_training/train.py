#!/usr/bin/env python3
"""Trains a logistic regression, and can be stopped and continued at any time.

Shows the whole pattern of a job with ``supports_termination: true``:

- the SIGTERM handler is installed first thing, and only sets a flag;
- the training loop looks at the flag often, saves a checkpoint and exits 0;
- the checkpoint is replaced atomically, periodically too, in case that no signal comes (a node that fails);
- the next start validates the checkpoint and goes on from it; a corrupt one is set aside;
- the model file appears only when training is complete.

Shuffling is seeded by the epoch, so that a training that was interrupted gives the same model, bit for bit,
as one that was not.
"""
# ruff: noqa: E402

import signal

_stop_requested = False


def _on_sigterm(signum: int, frame: object) -> None:
    # Nothing but the flag.  A handler runs between any two steps of the program, perhaps in the middle of a
    # save or of a weight update; the loop below looks at the flag where the state is whole.  A second and a
    # third SIGTERM change nothing, so repeated signals are handled once.
    global _stop_requested
    _stop_requested = True


# Before everything else, the other imports included.  Until this line SIGTERM simply kills Python, and in a
# real training "import torch", reading the data and moving it to the GPU can take minutes.
signal.signal(signal.SIGTERM, _on_sigterm)

import argparse
import hashlib
import json
import math
import os
import random
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graceful import say, write_json_atomically
from model import mean_loss, predict

FORMAT = 1
BATCH_SIZE = 32
LEARNING_RATE = 0.05


@dataclass
class State:
    """All that is needed to go on: what the checkpoint holds."""

    dataset: str  # fingerprint of the data, so that nobody goes on with other data by mistake
    epoch: int  # epochs completed
    weights: list[float]  # one per feature, then the bias
    format: int = FORMAT


class BadCheckpoint(Exception):
    """The file is there, but nobody should go on from it."""


# -- the checkpoint ------------------------------------------------------------------------------------------


def parse_checkpoint(data: bytes, size: int) -> State:
    """The state that ``data`` holds; everything is checked before anything is used."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise BadCheckpoint(f"not JSON: {error}") from None
    if not isinstance(content, dict) or content.keys() != {"dataset", "epoch", "weights", "format"}:
        raise BadCheckpoint("not a checkpoint of this program")
    if content["format"] != FORMAT:
        raise BadCheckpoint(f"format {content['format']!r}, expected {FORMAT}")
    if type(content["epoch"]) is not int or content["epoch"] < 0:
        raise BadCheckpoint(f"epoch {content['epoch']!r}")
    weights = content["weights"]
    if not isinstance(weights, list) or len(weights) != size or not all(map(_is_finite, weights)):
        raise BadCheckpoint(f"expected {size} finite weights")
    return State(**content)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def load_checkpoint(path: Path, dataset: str, size: int) -> State:
    """The state to start from: the checkpoint's, or that of epoch 0."""
    fresh = State(dataset=dataset, epoch=0, weights=[0.0] * size)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        say(f"no checkpoint at {path}: starting at epoch 0")
        return fresh
    try:
        state = parse_checkpoint(data, size)
        if state.dataset != dataset:
            raise BadCheckpoint("made with another dataset")
    except BadCheckpoint as error:
        # Kept for whoever wants to look at it, but out of the way: crashing here would crash every retry too.
        aside = path.with_name(path.name + ".bad")
        path.replace(aside)
        say(f"checkpoint {path} is unusable ({error}): set aside as {aside}, starting at epoch 0")
        return fresh
    say(f"resumed from epoch {state.epoch}")
    return state


def save_checkpoint(path: Path, state: State, seconds: float = 0.0) -> bool:
    """Whether it could be saved.  If not (a full disk, say) the one before it is still there, whole."""
    try:
        write_json_atomically(path, asdict(state), seconds)
    except OSError as error:
        say(f"could not save the checkpoint of epoch {state.epoch}: {error}; the one before it is untouched")
        return False
    return True


# -- the training --------------------------------------------------------------------------------------------


def train_epoch(
    rows: list[list[float]], weights: list[float], epoch: int, seconds: float
) -> list[float] | None:
    """The weights after one more epoch, or None if a stop was requested in its midst.

    Works on a copy: an epoch that is given up leaves no trace, and is repeated as a whole after the resume.
    """
    weights = weights.copy()
    rows = rows.copy()
    random.Random(epoch).shuffle(rows)
    starts = range(0, len(rows), BATCH_SIZE)
    for start in starts:
        if _stop_requested:
            return None
        batch = rows[start : start + BATCH_SIZE]
        gradient = [0.0] * len(weights)
        for *features, label in batch:
            error = predict(weights, features) - label
            for i, x in enumerate((*features, 1.0)):
                gradient[i] += error * x
        weights = [w - LEARNING_RATE * g / len(batch) for w, g in zip(weights, gradient, strict=True)]
        pause(seconds / len(starts))
    return weights


def pause(seconds: float) -> None:
    """Stands for a longer computation; like a computation, it must look at the flag from time to time."""
    end = time.monotonic() + seconds
    while not _stop_requested and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


# -- the program ---------------------------------------------------------------------------------------------


def report_limits(save_seconds: float) -> None:
    """Says what the supervisor told us about the time that there is; outside of it, nothing."""
    if grace := _number("TORC_GRACE_SECONDS"):
        say(f"after SIGTERM there are {grace:g} s to save (TORC_GRACE_SECONDS)")
        if save_seconds >= grace:
            say(f"warning: saving takes {save_seconds:g} s, so it will be killed before it is done")
    if end_time := _number("TORC_END_TIME"):
        end = datetime.fromtimestamp(end_time, UTC)
        say(f"the allocation ends at {end:%Y-%m-%d %H:%M:%S} UTC (TORC_END_TIME)")


def _number(variable: str) -> float | None:
    try:
        return float(os.environ[variable])
    except (KeyError, ValueError):
        return None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the model; on SIGTERM save a checkpoint and end.")
    parser.add_argument("--dataset", type=Path, default=Path("output/dataset.json"), help="of preprocess.py")
    parser.add_argument("--model", type=Path, default=Path("output/model.json"), help="written when complete")
    parser.add_argument("--checkpoint-dir", type=Path, default=Path("checkpoints"))
    parser.add_argument("--checkpoint-every", type=int, default=10, metavar="EPOCHS")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seconds-per-epoch", type=float, default=0.05, help="slows the training down")
    parser.add_argument("--save-seconds", type=float, default=0.0, help="of the save after SIGTERM")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    report_limits(args.save_seconds)
    try:
        data = args.dataset.read_bytes()
    except FileNotFoundError:
        say(f"error: there is no {args.dataset}: run preprocess.py first")
        return 1
    rows = json.loads(data)["train"]
    checkpoint = args.checkpoint_dir / "checkpoint.json"
    state = load_checkpoint(checkpoint, hashlib.sha256(data).hexdigest(), size=len(rows[0]))
    if state.epoch < args.epochs:
        args.model.unlink(missing_ok=True)  # an older training's: nobody must take it for this one's

    while state.epoch < args.epochs:
        weights = train_epoch(rows, state.weights, state.epoch, args.seconds_per_epoch)
        if weights is None:
            say(f"SIGTERM: saving checkpoint at epoch {state.epoch}")
            if not save_checkpoint(checkpoint, state, args.save_seconds):
                return 1
            say(f"SIGTERM: checkpoint saved, {args.epochs - state.epoch} of {args.epochs} epochs left")
            return 0
        state.weights = weights
        state.epoch += 1
        if state.epoch % args.checkpoint_every == 0 or state.epoch == args.epochs:
            say(f"epoch {state.epoch}/{args.epochs}: loss {mean_loss(rows, weights):.4f}")
            save_checkpoint(checkpoint, state)

    # A SIGTERM from here on changes nothing: finishing is quicker than saving.  Should the supervisor have
    # counted us as terminated, the next run finds the checkpoint of the last epoch and gets here at once.
    write_json_atomically(
        args.model, {"dataset": state.dataset, "epochs": state.epoch, "weights": state.weights}
    )
    say(f"training complete after {state.epoch} epochs: wrote {args.model}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
