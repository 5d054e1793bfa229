"""Random workflows on the real kernel, random blows at their supervisor, and what got away or lost (P5, P9, P10).

    scripts/chaos [--minutes 1] [--seed 1] [--at-a-time 3] [--keep DIR]
    scripts/chaos --seed 1 --round 17           # that round once more

Each round makes up a workflow of scripted jobs: they save when they are asked to, ignore it, die of it, fail, and fork
children that stay in the group, leave it or become daemons.  Parts of the supervisor (parent, keeper, sampler, some at
once) are killed, or stopped and continued, and the supervisor gets signals, at random instants, in one run or several.
Then the workflow is resumed in peace.  What must be true in the end: no process is left; what the grace allowed to be
saved is saved; each attempt has exactly one result; the workflow completes.

Prints a line for each round, and a summary as JSON.  Where something is wrong: the round's seed, what was done, the
journal, what the jobs noted, what was left; exit code 1.  Ctrl-C ends it after the rounds that are being played.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from benchmarks.chaos.play import Account, Player


class Chaos:
    """Rounds side by side, until the time is up or something is wrong."""

    def __init__(self, seed: str, minutes: float, keep: Path) -> None:
        self._seed = seed
        self._began = time.monotonic()
        self._until = self._began + 60 * minutes
        self._keep = keep
        self._guard = threading.Lock()
        self._numbers = count()
        self.over = False
        self.rounds = self.attempts = self.for_next = 0
        self.blows: Counter[str] = Counter()
        self.wrong: list[str] = []

    @property
    def minutes(self) -> float:
        """For how long it has been going on."""
        return round((time.monotonic() - self._began) / 60, 2)

    def play_on(self) -> None:
        """Round after round; several threads do this."""
        while not self.over and time.monotonic() < self._until:
            with self._guard:
                number = next(self._numbers)
            self.play(number)

    def play(self, number: int) -> None:
        began = time.monotonic()
        directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        account = Account(f"{self._seed} {number}")
        try:
            account = Player(directory, account.seed).play()
        except Exception:  # noqa: BLE001
            account.violations.append(f"the round broke off: {traceback.format_exc()}")
        with self._guard:
            self._report(number, account, directory, time.monotonic() - began)

    def _report(self, number: int, account: Account, directory: Path, seconds: float) -> None:
        self.rounds += 1
        self.attempts += account.attempts
        self.for_next += account.for_next
        self.blows += account.blows
        fine = not account.violations
        legs = " | ".join(account.legs)
        print(f"round {number}: {'fine' if fine else 'WRONG'} after {seconds:.1f} s: {legs}", flush=True)
        if fine:
            shutil.rmtree(directory)
            return
        self.over = True
        self._keep.mkdir(parents=True, exist_ok=True)
        kept = shutil.move(directory, self._keep / f"chaos-{self._seed}-{number}-{os.getpid()}")
        self.wrong.append(str(kept))
        print("\n".join(_particulars(self._seed, number, account, Path(kept))), flush=True)


def _particulars(seed: str, number: int, account: Account, directory: Path) -> Iterator[str]:
    yield f"VIOLATION with --seed {seed} --round {number}, kept in {directory}:"
    yield from (f"  {each}" for each in account.violations)
    yield "what was done:"
    yield from (f"  {leg}" for leg in account.legs)
    yield "what was left:"
    yield from (f"  {each}" for each in account.left)
    journals = sorted(directory.glob("torc_output/workflows/*/events.jsonl"))
    for path in (*journals, directory / "ledger", directory / "said"):
        yield f"{path.relative_to(directory)}:"
        if path.exists():
            yield path.read_text(errors="replace")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long rounds are begun")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--round", type=int, help="only this one")
    parser.add_argument("--at-a-time", type=int, default=3, help="rounds side by side")
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()), help="for rounds that went wrong"
    )
    options = parser.parse_args()
    chaos = Chaos(options.seed, options.minutes, options.keep)

    def stop(signum: int, frame: object) -> None:
        chaos.over = True

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # under nohup the supervisors would ignore it, as they are asked to
    if options.round is not None:
        chaos.play(options.round)
    else:
        with ThreadPoolExecutor(options.at_a_time) as threads:
            for _ in range(options.at_a_time):
                threads.submit(chaos.play_on)
    summary = {
        "seed": options.seed,
        "minutes": chaos.minutes,
        "rounds": chaos.rounds,
        "attempts": chaos.attempts,
        "blows": dict(sorted(chaos.blows.items())),
        "left_for_the_next_command": chaos.for_next,
        "wrong": chaos.wrong,
    }
    print(json.dumps(summary), flush=True)
    return 1 if chaos.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
