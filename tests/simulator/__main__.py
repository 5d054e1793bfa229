"""The simulator by hand, from tests/: ``python -m simulator --events 10_000_000 --seed 1``."""

from __future__ import annotations

import argparse
import sys
import time

from simulator.day import live
from simulator.days import explain, live_through
from simulator.fibers import NEVER
from simulator.plan import draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="stop after so many events (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=NEVER, help="or after so much time (default: never)")
    parser.add_argument("--seed", type=int, default=0, help="of the first day (default: %(default)s)")
    parser.add_argument("--day", type=int, help="live through the day of this seed only, and say how it went")
    chosen = parser.parse_args()
    if chosen.day is not None:
        report = live(draw(chosen.day))
        print(report.journal.decode(errors="replace"), *report.printed, sep="\n")
        if report.failure is not None:
            print(explain(draw(chosen.day), report.failure))
        return 1 if report.failure is not None else 0
    began = time.monotonic()
    tally = live_through(range(chosen.seed, chosen.seed + chosen.events), chosen.events, chosen.minutes * 60)
    seconds = time.monotonic() - began
    print(
        f"{tally.days} days from seed {chosen.seed}, {tally.events} events in {seconds:.1f} s: "
        f"{tally.days * 60 / seconds:.0f} days and {tally.events * 60 / seconds:.0f} events a minute"
    )
    if tally.failed:
        print(tally.failed)
        return 1
    print("no rule was broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
