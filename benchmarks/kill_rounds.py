"""SIGKILL to parts of the supervisor at random instants: what is left, what is lost, what is there twice (P9, P10).

    python -m benchmarks.kill_rounds [--rounds 200] [--seed 1] [--at-a-time 3] [--target parent] ...

Each round runs a small random workflow, kills the target at a random instant, waits until everything of the supervisor
is gone, looks for processes of its jobs, has the next command finish the workflow, and reads its journal.  Targets:
``parent``, ``keeper``, ``sampler``, ``pair`` (two of the three at once).  Prints one JSON document; exit code 1 and the
directories of the rounds where something was wrong.  Ctrl-C ends it after the round, with what it has found.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rounds import LIMIT, PARTS, SHORT, Books, Playground, describe, ended, hit

TARGETS = (*PARTS, "pair")

# Each job notes that it began, and that it came to its end.
BEGAN = "echo began $TORC_RUN_ID $TORC_ATTEMPT_ID >>ledger/$TORC_JOB_NAME;"
DONE = "echo done $TORC_RUN_ID $TORC_ATTEMPT_ID >>ledger/$TORC_JOB_NAME"
KINDS = (
    "{wait}; " + DONE,
    "sleep 1000 & {wait}; kill $!; " + DONE,
    "setsid sleep 0.4 & {wait}; " + DONE,
    "trap 'exit 3' TERM; {wait} & wait $!; " + DONE,
)


@dataclass
class Round:
    """What one round came to."""

    both_killed: bool = False
    killed: str = ""
    was_over: bool = False  # the instant came after the end of the run
    left: int = 0  # processes of jobs when nothing of the supervisor was left
    left_for_next: int = 0  # the same where parent and keeper were killed at once: the next command ends them
    lost: int = 0  # attempts in the journal without a result
    doubled: int = 0  # attempts with more than one result
    unrecorded: int = 0  # attempts that began and that the journal does not know
    incomplete: bool = False  # the workflow could not be finished
    error: str = ""
    kept: str = ""  # where its directory is

    @property
    def wrong(self) -> bool:
        return bool(self.left or self.lost or self.doubled or self.incomplete or self.error)


def workflow(chance: random.Random) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = []
    for number in range(chance.randint(4, 9)):
        kind = chance.choice(KINDS)
        job = {
            "name": f"j{number}",
            "command": BEGAN + " " + kind.format(wait=f"sleep {chance.uniform(0, 0.4):.3f}"),
            "supports_termination": chance.random() < 0.6,
        }
        if jobs and chance.random() < 0.5:
            job["depends_on"] = [chance.choice(jobs)["name"]]
        jobs.append(job)
    return {
        "name": "killed",
        "jobs": jobs,
        "execution_config": {"sigterm_lead_seconds": 2},
        "resource_monitor": {"enabled": True, "sample_interval_seconds": 0.1},
    }


class Killing:
    """One round in a directory of its own."""

    def __init__(self, directory: Path, target: str, chance: random.Random, patience: float) -> None:
        self._directory = directory
        self._ground = Playground(directory)
        self._target = target
        self._chance = chance
        self._patience = patience
        self.result = Round()

    def play(self) -> Round:
        (self._directory / "ledger").mkdir()
        (self._directory / "workflow.json").write_text(json.dumps(workflow(self._chance)))
        parent = self._ground.start("run", "workflow.json")
        if self._target in ("parent", "pair") and self._chance.random() < 0.1:
            self.result.was_over = ended(parent.pid, self._chance.uniform(0.0, 1.0))  # while it starts
        else:
            while not self.result.was_over and len(self._ground.parts(parent.pid)) < len(PARTS):
                self.result.was_over = ended(parent.pid, 0.005)
            self.result.was_over |= ended(parent.pid, self._chance.uniform(0.0, 1.2))
        if not self.result.was_over:
            self._kill(parent.pid)
        if not ended(parent.pid, LIMIT):
            self.result.error = "the parent does not end"
        parent.wait()
        if self.result.both_killed:
            self.result.left_for_next = len(self._ground.processes())
        else:
            self._count_left()
        self._finish()
        self._read_journal()
        return self.result

    def _kill(self, parent: int) -> None:
        there = self._ground.parts(parent)
        wanted = self._chance.sample(PARTS, 2) if self._target == "pair" else [self._target]
        killed = [name for name in wanted if name in there]
        self.result.killed = "+".join(sorted(killed)) or "nobody: it was not there yet"
        self.result.both_killed = {"parent", "keeper"} <= set(killed)
        for name in killed:
            hit(there[name], signal.SIGKILL)
        if "parent" in killed:
            for name in ("keeper", "sampler"):  # the keeper ends the jobs; the sampler leaves
                if name in there and not ended(there[name], LIMIT):
                    self.result.error = "a helper outlives its parent"

    def _count_left(self) -> None:
        """A job's shell that is just about to look at its parent, and the sampler, get a moment to leave."""
        left = self._ground.settle(self._patience)
        self.result.left += len(left)
        if left:
            self.result.error = f"left: {list(map(describe, left))}"

    def _finish(self) -> None:
        """The next command ends and records what was lost, and finishes the workflow."""
        for _ in range(3):
            if self._ground.start(*self._ground.go_on()).wait(LIMIT) == 0:
                break
        else:
            self.result.incomplete = True
        self._count_left()
        self._ground.kill_rest()

    def _read_journal(self) -> None:
        journal = self._ground.journal()
        assert journal is not None, "the workflow was finished"
        books = Books.of(journal)
        if books.has_gap:
            self.result.error = "gap in the journal"
        self.result.lost, self.result.doubled = len(books.lost), len(books.doubled)
        began: Counter[tuple[str, int, int]] = Counter()
        for ledger in (self._directory / "ledger").iterdir():
            for line in ledger.read_text().splitlines():
                what, run, attempt = line.split()
                began[ledger.name, int(run), int(attempt)] += what == "began"
        names = books.names
        known = Counter(
            {(names[job_id], run, attempt): n for (run, job_id, attempt), n in books.started.items()}
        )
        self.result.unrecorded = sum((began - known).values())
        completed = {e["job_id"] for e in books.entries if e.get("status") == "completed" and "job_id" in e}
        self.result.incomplete |= completed != set(names)


INTERRUPTED: list[int] = []
"""Signals to stop: the round is finished, and what there is is printed."""


def play_rounds(target: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The table's entry, and the directories of rounds that went wrong."""
    with ThreadPoolExecutor(options.at_a_time) as threads:
        played = threads.map(lambda number: play_round(target, number, options), range(options.rounds))
        results = [result for result in played if result is not None]
    wrong = [result.kept for result in results if result.wrong]
    killed = [result for result in results if not result.was_over]
    return {
        "rounds": len(results),
        "killed_while_it_ran": sum(not each.killed.startswith("nobody") for each in killed),
        "killed": dict(Counter(each.killed for each in killed)),
        "processes_left": sum(each.left for each in results),
        "processes_left_for_the_next_command": sum(each.left_for_next for each in results),
        "results_lost": sum(each.lost for each in results),
        "results_doubled": sum(each.doubled for each in results),
        "began_without_a_record": sum(each.unrecorded for each in results),
        "not_completed": sum(each.incomplete for each in results),
        "errors": [each.error for each in results if each.error],
    }, wrong


def play_round(target: str, number: int, options: argparse.Namespace) -> Round | None:
    """None where nobody wants to go on."""
    if INTERRUPTED:
        return None
    directory = Path(tempfile.mkdtemp(prefix="kill-round-"))
    chance = random.Random(f"{options.seed} {target} {number}")
    result = Killing(directory, target, chance, options.patience).play()
    if result.wrong:
        result.kept = str(options.keep / f"{target}-{options.seed}-{number}")
        shutil.move(directory, result.kept)
        (Path(result.kept) / "result.json").write_text(json.dumps(vars(result)))
    else:
        shutil.rmtree(directory)
    print(f"{target}: {number + 1}/{options.rounds}{', WRONG' if result.wrong else ''}", file=sys.stderr)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--at-a-time", type=int, default=1, help="rounds side by side")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="for failed rounds")
    parser.add_argument("--patience", type=float, default=SHORT, help="seconds for helpers to leave")
    options = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: INTERRUPTED.append(number))
    options.keep.mkdir(parents=True, exist_ok=True)
    table, wrong = {}, []
    for target in options.target or TARGETS:
        table[target], failed = play_rounds(target, options)
        wrong += failed
    print(json.dumps({"seed": options.seed, "targets": table, "wrong": wrong}, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
