"""Play: make a plan happen, in a directory of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.chaos import plan
from benchmarks.chaos.plan import Blow, Leg
from benchmarks.chaos.verdict import Verdict
from benchmarks.rounds import LIMIT, Books, Playground, describe, ended, hit, name_of

HIDE_CGROUPS = ("unshare", "--mount", "bash", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "bash")
COMPLETE = (0, 1)  # exit codes; 1 because jobs may be made to fail
STOPPED_EARLY = 75
INTERRUPTED = 130  # before it had begun
MOST_LEGS_TO_COMPLETE = 3


@dataclass
class Account:
    """What was done in a round, and what came of it."""

    seed: str
    legs: list[str] = field(default_factory=list)
    blows: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    for_next: int = 0  # processes that were left for the next command, because parent and keeper were killed
    violations: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Player:
    """One round."""

    def __init__(self, directory: Path, seed: str) -> None:
        self._directory = directory
        self._ground = Playground(directory)
        self._plan = plan.make(Random(seed))
        # Parent and keeper were both killed: what they have left is ended by the next command that gets to it.
        self._owed = False  # in earlier legs
        self._both_killed = False  # in this one
        self._parent_died = False  # in any
        self._killed: set[int] = set()
        self._known_runs = 0
        self.account = Account(seed)

    def play(self) -> Account:
        (self._directory / "checkpoints").mkdir()
        (self._directory / "ledger").touch()
        (self._directory / "workflow.json").write_text(json.dumps(self._plan.workflow()))
        for leg in self._plan.legs:
            if self._play_leg(leg) in COMPLETE:
                break
        self._complete()
        self._check_left("the workflow was completed")
        self.account.left += map(describe, self._ground.processes())
        self._ground.kill_rest()
        journal = self._ground.journal()
        if journal is None:
            self._violate("there is no journal")
        else:
            books = Books.of(journal)
            verdict = Verdict(
                self._plan, books, (self._directory / "ledger").read_text(), lenient=self._parent_died
            )
            self.account.violations += verdict.violations()
            self.account.attempts = len(books.started)
            if (journal.parent / "lock").exists():
                self._violate("the lock was not released")
        for traceback in tracebacks((self._directory / "said").read_text(errors="replace")):
            self._violate(f"a traceback:\n{traceback}")
        return self.account

    def _violate(self, what: str) -> None:
        self.account.violations.append(what)

    # -- a leg ----------------------------------------------------------------------------------------------

    def _play_leg(self, leg: Leg) -> int:
        """Returns the exit code."""
        hide = HIDE_CGROUPS if self._plan.hide_cgroups and os.geteuid() == 0 else ()
        limit = ("--max-parallel-jobs", str(self._plan.at_a_time), "--num-cpus", "100")
        process = self._ground.start(*self._ground.go_on(), *limit, prefix=hide)
        done: list[str] = []
        self._both_killed = False
        if not leg.from_start:
            helpers = 2 if self._plan.sampled else 1
            while len(self._ground.parts(process.pid)) <= helpers and not ended(process.pid, 0.01):
                continue
        asking = threading.Thread(target=self._ask_status) if leg.asks_status else None
        if asking is not None:
            asking.start()
        stopped: list[threading.Timer] = []
        for blow in leg.blows:
            ended(process.pid, blow.after)
            done.append(self._strike(blow, process.pid, stopped))
        if not ended(process.pid, LIMIT):
            self._violate(f"the supervisor does not end: {describe(process.pid)}")
            process.kill()
        code = process.wait()
        self._parent_died |= code < 0
        for timer in stopped:
            timer.join()
        if asking is not None:
            asking.join()
        done.append(f"ended with {code}")
        self.account.legs.append("; ".join(done))
        self._await_keeper()
        runs = self._known_runs
        self._settle_debts()
        good = (*COMPLETE, STOPPED_EARLY) if self._known_runs > runs else (*COMPLETE, INTERRUPTED)
        if code >= 0 and code not in good:
            self._violate(f"exit code {code}")
        return code

    def _strike(self, blow: Blow, parent: int, stopped: list[threading.Timer]) -> str:
        # Race: what has just been killed may not look dead yet, and is of no use to anybody.
        there = {name: pid for name, pid in self._ground.parts(parent).items() if pid not in self._killed}
        parts = [part for part in blow.parts if part in there]
        if not parts:
            return f"({blow}: not there)"
        whom = "+".join(sorted(parts))
        if blow.act == "KILL":
            self._note_killed(parts, there)
            for part in parts:
                hit(there[part], signal.SIGKILL)
                self._killed.add(there[part])
        elif blow.act == "STOP":
            for part in parts:
                hit(there[part], signal.SIGSTOP)
                stopped.append(threading.Timer(blow.stopped, hit, (there[part], signal.SIGCONT)))
                stopped[-1].start()
        else:
            signum = signal.Signals[f"SIG{blow.act}"]
            if blow.to_group and name_of(parent):
                os.killpg(parent, signum)
            else:
                hit(parent, signum)
        self.account.blows[f"{blow.act} {whom}"] += 1
        return str(blow)

    def _note_killed(self, parts: list[str], there: dict[str, int]) -> None:
        """Is there nobody who ends the jobs once these are killed?"""
        if ("parent" in parts or "parent" not in there) and ("keeper" in parts or "keeper" not in there):
            self._both_killed = True

    def _ask_status(self) -> None:
        """Whatever happens meanwhile, a reader gets an answer."""
        journal = self._ground.journal()
        if journal is None:
            return
        asking = self._ground.start("status", journal.parent.name, "-f", "json", stdout=subprocess.PIPE)
        answer, _ = asking.communicate(timeout=LIMIT)
        if asking.returncode != 0 or "jobs_by_status" not in json.loads(answer):
            self._violate(f"status: exit code {asking.returncode}, {answer!r}")

    def _await_keeper(self) -> None:
        """Of a parent that was killed."""
        while keeper := [pid for pid in self._ground.processes() if name_of(pid) == "torc-keeper"]:
            if not ended(keeper[0], LIMIT):
                self._violate(f"the keeper does not end: {describe(keeper[0])}")
                hit(keeper[0], signal.SIGKILL)
                self._both_killed = True

    def _settle_debts(self) -> None:
        journal = self._ground.journal()
        runs = Books.of(journal).num_runs if journal is not None else 0
        self._owed = self._both_killed or (self._owed and runs == self._known_runs)
        self._known_runs = runs
        if self._owed:
            self.account.for_next += len(self._ground.processes())
        else:
            self._check_left("the supervisor was gone")

    def _check_left(self, when: str) -> None:
        left = self._ground.settle()
        if left:
            self._violate(f"{len(left)} processes left when {when}")
            self.account.left += map(describe, left)

    # -- the end --------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        """Nobody disturbs it now; what was lost is ended and recorded, and all that is left is run."""
        for _ in range(MOST_LEGS_TO_COMPLETE):
            process = self._ground.start(*self._ground.go_on(), "--num-cpus", "100")
            if not ended(process.pid, LIMIT):
                self._violate("the resumed workflow does not end")
                process.kill()
            code = process.wait()
            self.account.legs.append(f"in peace: {code}")
            if code in COMPLETE:
                return
        self._violate(f"the workflow does not complete: {self.account.legs[-MOST_LEGS_TO_COMPLETE:]}")


def tracebacks(said: str) -> Iterator[str]:
    """Those of errors.  Ctrl-C may come while the interpreter starts and imports us, before a function of ours runs."""
    for found in re.finditer(r"^Traceback .*\n((?: .*\n)+)(.*)", said, re.MULTILINE):
        if found[2] != "KeyboardInterrupt" or re.search(r"torc_supervise.*, in (?!<module>)", found[1]):
            yield found[0]
