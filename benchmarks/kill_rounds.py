"""SIGKILL to parts of the supervisor at random instants: what is left, what is lost, what is there twice (P9, P10).

    python benchmarks/kill_rounds.py [--rounds 200] [--seed 1] [--target parent] [--target pair] ...

Each round runs a small random workflow, kills the target at a random instant, waits until everything of the supervisor
is gone, looks for processes of its jobs, has the next command finish the workflow, and reads its journal.  Targets:
``parent``, ``keeper``, ``sampler``, ``pair`` (two of the three at once).  Prints one JSON document; exit code 1 and the
directories of the rounds where something was wrong.  Ctrl-C ends it after the round, with what it has found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "torc_supervise_cli"]
TARGETS = ("parent", "keeper", "sampler", "pair")
LIMIT = 60.0  # seconds for anything to end
SHORT = 10.0  # seconds for processes that are about to notice that their parent is gone

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

    def __init__(self, directory: Path, target: str, chance: random.Random) -> None:
        self._directory = directory
        self._target = target
        self._chance = chance
        self._mark = f"TORC_KILL_ROUND={uuid.uuid4().hex}"
        self.result = Round()

    def play(self) -> Round:
        (self._directory / "ledger").mkdir()
        (self._directory / "workflow.json").write_text(json.dumps(workflow(self._chance)))
        parent = self._start("run", "workflow.json")
        if self._target in ("parent", "pair") and self._chance.random() < 0.1:
            self.result.was_over = wait_for_end(parent.pid, self._chance.uniform(0.0, 1.0))  # while it starts
        else:
            while not self.result.was_over and len(helpers_of(parent.pid)) < 2:
                self.result.was_over = wait_for_end(parent.pid, 0.005)
            self.result.was_over |= wait_for_end(parent.pid, self._chance.uniform(0.0, 1.2))
        if not self.result.was_over:
            self._kill(parent)
        if not wait_for_end(parent.pid, LIMIT):
            self.result.error = "the parent does not end"
        parent.wait()
        self._look_for_rest()
        self._finish()
        self._read_journal()
        return self.result

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        name, _, value = self._mark.partition("=")
        with open(self._directory / "said", "ab") as said:
            return subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, name: value},
                start_new_session=True,
            )

    def _kill(self, parent: subprocess.Popen[bytes]) -> None:
        helpers = helpers_of(parent.pid)
        there = {"parent": parent.pid, **dict(zip(("keeper", "sampler"), helpers, strict=False))}
        wanted = self._chance.sample(TARGETS[:3], 2) if self._target == "pair" else [self._target]
        killed = [name for name in wanted if name in there]
        self.result.killed = "+".join(sorted(killed)) or "nobody: it was not there yet"
        self.result.both_killed = {"parent", "keeper"} <= set(killed)
        watched = [os.pidfd_open(pid) for pid in helpers]
        for name in killed:
            os.kill(there[name], signal.SIGKILL)
        if "parent" in killed:
            for descriptor in watched:  # the keeper ends the jobs; the sampler leaves
                if not readable(descriptor, LIMIT):
                    self.result.error = "a helper outlives its parent"
        for descriptor in watched:
            os.close(descriptor)

    def _look_for_rest(self) -> None:
        if self.result.both_killed:
            self.result.left_for_next = len(marked(self._mark))
            return
        self._count_left()

    def _count_left(self) -> None:
        """A job's shell that is just about to look at its parent, and the sampler, get a moment to leave."""
        until = time.monotonic() + SHORT
        while (left := marked(self._mark)) and time.monotonic() < until:
            wait_for_end(left[0], 0.1)
        self.result.left += len(left)
        if left:
            self.result.error = f"left: {[Path(f'/proc/{pid}/cmdline').read_bytes()[:200] for pid in left]}"

    def _finish(self) -> None:
        """The next command ends and records what was lost, and finishes the workflow."""
        for _ in range(3):
            there = (self._directory / "torc_output" / "workflows" / "1" / "events.jsonl").exists()
            if self._start("run", "1" if there else "workflow.json").wait(LIMIT) == 0:
                break
        else:
            self.result.incomplete = True
        self._count_left()
        for pid in marked(self._mark):
            os.kill(pid, signal.SIGKILL)

    def _read_journal(self) -> None:
        (found,) = (self._directory / "torc_output" / "workflows").iterdir()
        entries = [json.loads(line) for line in (found / "events.jsonl").read_text().splitlines()]
        if [entry["seq"] for entry in entries] != list(range(1, len(entries) + 1)):
            self.result.error = "gap in the journal"
        started = Counter(key(entry) for entry in entries if entry["event"] == "job_started")
        ended = Counter(key(entry) for entry in entries if entry["event"] == "job_ended")
        self.result.lost = sum((started - ended).values())
        self.result.doubled = sum((ended - started).values()) + sum(n - 1 for n in started.values())
        names = {job["job_id"]: job["name"] for job in entries[0]["workflow"]["jobs"]}
        began: Counter[tuple[str, int, int]] = Counter()
        for ledger in (self._directory / "ledger").iterdir():
            for line in ledger.read_text().splitlines():
                what, run, attempt = line.split()
                began[ledger.name, int(run), int(attempt)] += what == "began"
        known = Counter({(names[job_id], run, attempt): n for (run, job_id, attempt), n in started.items()})
        self.result.unrecorded = sum((began - known).values())
        completed = Counter(e["job_id"] for e in entries if e.get("status") == "completed" and "job_id" in e)
        if set(completed) != set(names):
            self.result.incomplete = True


INTERRUPTED: list[int] = []
"""Signals to stop: the round is finished, and what there is is printed."""


def key(entry: dict[str, Any]) -> tuple[int, int, int]:
    return entry["run_id"], entry["job_id"], entry["attempt_id"]


def helpers_of(pid: int) -> list[int]:
    """Keeper, and sampler: children that never called exec and ignore SIGTERM."""
    try:
        own = Path(f"/proc/{pid}/cmdline").read_bytes()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    found = []
    for child in children:
        try:
            same = Path(f"/proc/{child}/cmdline").read_bytes() == own
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1], 16)
        if same and ignored >> (signal.SIGTERM - 1) & 1:
            found.append(int(child))
    return found


def marked(mark: str) -> list[int]:
    """Living processes with that entry in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            there = mark.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            if there and Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(name))
        except OSError:
            continue
    return found


def readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether it ended within that time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return readable(descriptor, seconds)
    finally:
        os.close(descriptor)


def play_rounds(target: str, rounds: int, seed: int, keep: Path) -> tuple[dict[str, Any], list[str]]:
    results, wrong = [], []
    for number in range(rounds):
        if INTERRUPTED:
            break
        directory = Path(tempfile.mkdtemp(prefix="kill-round-"))
        result = Killing(directory, target, random.Random(f"{seed} {target} {number}")).play()
        results.append(result)
        if result.wrong:
            kept = keep / f"{target}-{seed}-{number}"
            shutil.move(directory, kept)
            (kept / "result.json").write_text(json.dumps(vars(result)))
            wrong.append(str(kept))
        else:
            shutil.rmtree(directory)
        print(f"{target}: {number + 1}/{rounds}, {len(wrong)} wrong", file=sys.stderr)
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="for failed rounds")
    options = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: INTERRUPTED.append(number))
    options.keep.mkdir(parents=True, exist_ok=True)
    table, wrong = {}, []
    for target in options.target or TARGETS:
        table[target], failed = play_rounds(target, options.rounds, options.seed, options.keep)
        wrong += failed
    print(json.dumps({"seed": options.seed, "targets": table, "wrong": wrong}, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
