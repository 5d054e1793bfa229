"""The task of a job step: runs one job on its node as the supervisor does on its own, and listens to the step's leader.

srun starts one on each node of the job.  The first one runs the job: in a session and group of its own (P2), over when
its group is empty (P4), what escaped is found and ended (P5).  The rules are those of ``machine.step``; only the
deadlines are the supervisor's.  The others hold their nodes for it, and end what the job started there by other ways
(an ``srun`` or ``mpirun`` of its own) and left behind.

All that srun hands over comes on stdin: one line of JSON (``slurm.steps``), then ``signal N`` for each signal that the
job is to get.  End of file means: end the job at once.  It comes too when leader and srun are gone, whatever killed
them (P10).  What Slurm sends to this process itself is passed on once and noted; it is no reason to end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from torc_supervise.exitstatus import Exited, Usage
from torc_supervise.helpers.hunt import Hunt, job_mark, marks_of
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import phases as p
from torc_supervise.machine.status import StopReason
from torc_supervise.machine.step import LEFTOVER_GRACE, step
from torc_supervise.posix.clock import LONGEST_WAIT
from torc_supervise.posix.escaped import end_escaped
from torc_supervise.posix.kernel import RealKernel
from torc_supervise.posix.marks import NONCE
from torc_supervise.posix.outsiders import Unreached
from torc_supervise.posix.reap import LOOK_AGAIN_AFTER, NotNowError, Sweep
from torc_supervise.posix.shell import command_line
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.posix.subreaper import become_subreaper
from torc_supervise.posix.wakeup import Wakeup

TOLD_LATELY = 120.0
"""Seconds in which a job that Slurm itself has asked to end (KillWait is 30 by default) ends because of that."""

HUNT_FOR = 5.0
"""Seconds that processes which a job left on a node are looked for and waited for."""


_OF_THIS_STEP = ("SLURM_CPU_BIND", "SLURM_DISTRIBUTION", "SLURM_NPROCS", "SLURM_NTASKS")


class Orders:
    """The leader's lines on stdin."""

    def __init__(self, descriptor: int = 0) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._rest = b""
        self._lines: list[bytes] = []

    def first(self) -> dict[str, Any] | None:
        """What is to be run; None where nobody is there any more.  Waits."""
        while not self._lines and not self.ended:
            self.read()
        head: dict[str, Any] | None = json.loads(self._lines.pop(0)) if self._lines else None
        return head

    def read(self) -> None:
        """Take what is there.  Waits if nothing is."""
        try:
            data = os.read(self.descriptor, 1 << 16)
        except OSError:
            data = b""
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += lines

    def is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def signals(self) -> list[int]:
        """The signals that were ordered since the last call."""
        lines, self._lines = self._lines, []
        return [int(line.split()[1]) for line in lines if line.startswith(b"signal ")]


class Attendant:
    """One job on this node, from its start until nothing of it is left."""

    def __init__(self, kernel: RealKernel, wakeup: Wakeup, orders: Orders, job: Mapping[str, Any]) -> None:
        self._kernel, self._wakeup, self._orders = kernel, wakeup, orders
        self._leader_only = job["scope"] == "leader"
        self._phase: p.Phase = p.Finished()
        self._pgid = 0
        self._usage: Usage | None = None
        self._watched: dict[int, int] = {}  # pid -> pidfd
        self._look_again_at = p.NEVER
        self._children_changed = False
        self._unreached = Unreached(kernel.signal_outside, self._look_soon)
        self._sent: set[int] = set()
        self._told_at = -TOLD_LATELY  # when Slurm itself sent SIGTERM
        self.outcome: p.Outcome | None = None
        self.asked = self.killed = False

    def start(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Raises SpawnRefusedError or SpawnFailedError."""
        self._pgid = self._kernel.spawn(argv, environment)
        policy = p.Policy(signal.SIGTERM, supports_termination=True)
        self._phase = p.Running(policy, self._pgid, time.monotonic())

    def attend(self) -> p.Outcome | None:
        """Until nothing of its group is left; what it came to, None if that cannot be said."""
        while not isinstance(self._phase, p.Finished | p.Abandoned):
            self._turn(min(p.deadline(self._phase), self._look_again_at))
            self._feed(e.ClockReached())
        return self.outcome

    def end_escaped(self) -> None:
        """What left the group gets the grace of leftovers, none if the job was killed (P5)."""
        grace = 0.0 if self.killed else LEFTOVER_GRACE
        end_escaped(self._kernel, signal.SIGTERM, grace, self._turn)

    def was_told(self) -> bool:
        """Whether it probably ended because Slurm asked it to."""
        return not self.asked and time.monotonic() - self._told_at < TOLD_LATELY

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def _turn(self, until: float) -> Collection[int]:
        poll = select.poll()
        poll.register(self._wakeup.fileno(), select.POLLIN)
        if not self._orders.ended:
            poll.register(self._orders.descriptor, select.POLLIN)
        for descriptor in self._watched.values():
            poll.register(descriptor, select.POLLIN)
        deadline = min(until, self._look_again_at)
        seconds = LONGEST_WAIT if deadline == p.NEVER else max(0.0, deadline - time.monotonic())
        ready = {descriptor for descriptor, _ in poll.poll(min(LONGEST_WAIT, seconds) * 1000 + 1)}
        if self._orders.descriptor in ready:
            self._orders.read()
            self._obey()
        self._take_signals()
        ended = [pid for pid, descriptor in self._watched.items() if descriptor in ready]
        for pid in ended:
            os.close(self._watched.pop(pid))
        if self._children_changed or ended or time.monotonic() >= self._look_again_at:
            self._look(again=bool(ended))
        self._unreached.reach_some()
        return ()

    def _obey(self) -> None:
        for signum in self._orders.signals():
            self.asked = True
            self._ask(signum)
        if self._orders.ended:
            self.asked = self.killed = True
            self._feed(e.KillAsked(StopReason.SIGNAL))

    def _take_signals(self) -> None:
        for signum in self._wakeup.take():
            if signum == signal.SIGCHLD:
                self._children_changed = True
            elif signum == signal.SIGTERM:
                self._told_at = time.monotonic()
                self._ask(signum)
            else:
                self._send(signum)

    def _send(self, signum: int) -> None:
        """To the job, each signal once: who sends it again means the same (P6)."""
        if signum in self._sent or not isinstance(self._phase, p.Running | p.Terminating):
            return
        self._sent.add(signum)
        if self._leader_only:
            self._kernel.signal_process(self._pgid, signum)
        else:
            self._signal_group(self._pgid, signum)
        self._kernel.signal_group(self._pgid, signal.SIGCONT)

    def _signal_group(self, pgid: int, signum: int) -> None:
        """And what has left it."""
        self._kernel.signal_group(pgid, signum)
        self._unreached.note(pgid, signum)
        self._unreached.reach_some()

    def _look_soon(self) -> None:
        self._look_again_at = time.monotonic() + LOOK_AGAIN_AFTER

    def _ask(self, signum: int) -> None:
        """The job is to end: it has its grace even if its leader goes first (P4); the supervisor knows how long."""
        if isinstance(self._phase, p.Running) and signum not in self._sent:
            self._sent.add(signum)
            policy = p.Policy(signum, supports_termination=True, signal_leader_only=self._leader_only)
            self._phase = replace(self._phase, policy=policy)
            self._feed(e.StopAsked(StopReason.SIGNAL, p.NEVER))
        else:
            self._send(signum)

    def _look(self, *, again: bool) -> None:
        self._children_changed, self._look_again_at = False, p.NEVER
        try:
            sweep = self._kernel.sweep()
            if again or not sweep.members:
                members = self._kernel.look_again()
                sweep.members.update(members.members)
                sweep.strangers.update(members.strangers)
        except NotNowError:
            self._look_soon()
            return
        self._report(sweep)

    def _report(self, sweep: Sweep) -> None:
        gone = p.leader_gone(self._phase)
        for pgid, exit_ in sweep.exited:
            self._feed(e.LeaderExited(exit_, len(sweep.members[pgid]), sweep.num_escaped(pgid)))
        if gone and self._pgid in sweep.members:
            self._feed(e.GroupChanged(len(sweep.members[self._pgid])))
        for pid in sweep.strangers - self._watched.keys():
            descriptor = self._kernel.watch(pid)
            if descriptor is None:  # it has ended, or no descriptor is to be had
                self._look_again_at = time.monotonic() + LOOK_AGAIN_AFTER
            else:
                self._watched[pid] = descriptor

    def _feed(self, event: e.Event) -> None:
        self._phase, actions = step(self._phase, event, time.monotonic())
        for action in actions:
            match action:
                case a.SignalGroup(pgid=pgid, signum=signum):
                    self._signal_group(pgid, signum)
                case a.SignalLeader(pid=pid, signum=signum):
                    self._kernel.signal_process(pid, signum)
                case a.Reap(pid=pid):
                    self._usage = self._kernel.collect(pid)
                    self._feed(e.Reaped(self._usage))
                case a.RecordResult(outcome=outcome):
                    self.outcome = outcome


def say(**document: object) -> None:
    """One line to the leader."""
    os.write(1, json.dumps(document).encode() + b"\n")


def run_job(orders: Orders, job: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Run the job and say how it ended; False where that cannot be said."""
    become_subreaper()
    if orders.is_readable():
        orders.read()
    if orders.ended:
        return False
    # Race: asked to end before it began.  The order may have come in one piece with the head, before this process.
    # Test: test_step_leader.py::test_a_signal_that_comes_with_the_head_is_obeyed.
    if early := orders.signals():
        say(ended={"how": "signal", "number": early[0], "told": False})
        return True
    with Wakeup() as wakeup:
        attendant = Attendant(RealKernel(), wakeup, orders, job)
        argv = command_line(
            job["bash"], job["command"], job["stdout"], job["stderr"], os.getpid(), job["open_files"]
        )
        try:
            attendant.start(argv, environment)
        except (SpawnRefusedError, SpawnFailedError) as error:
            print(f"torc-supervise: {error}", file=sys.stderr, flush=True)
            return False
        say(started={"node": os.environ.get("SLURMD_NODENAME"), "pid": os.getpid()})
        outcome = attendant.attend()
        attendant.end_escaped()
        if attendant.asked or attendant.was_told() or job["nodes"] > 1:
            hunt(job)
        if outcome is None or outcome.exit is None:
            return False
        exited = isinstance(outcome.exit, Exited)
        number = outcome.exit.code if isinstance(outcome.exit, Exited) else outcome.exit.signum
        told = attendant.was_told()
        say(ended={"how": "exit" if exited else "signal", "number": number, "told": told})
        return True


def environment_of(job: Mapping[str, Any]) -> dict[str, str]:
    """What the job finds: what Slurm gives to its step, and its own on top.

    How this step was laid out must not lay out the steps that the job starts itself: they share what the job has
    (SLURM_OVERLAP), or they would wait for ever for resources that their own step holds.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THIS_STEP)}
    given |= dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), str(job["nodes"]))
    given["SLURM_OVERLAP"] = "1"
    given["SLURM_TASKS_PER_NODE"] = str(job["cpus"]) + (f"(x{job['nodes']})" if job["nodes"] > 1 else "")
    return {**given, **job["environment"]}


def hold_node(orders: Orders, job: Mapping[str, Any]) -> None:
    """Keep this node for the job until it is over on its first one, then leave nothing of it behind."""
    while not orders.ended:
        orders.read()
    hunt(job)


def hunt(job: Mapping[str, Any]) -> None:
    """Kill what carries the job's marks: tasks of an srun of its own are nobody's children here."""
    own = job["environment"]
    found = marks_of(
        own["TORC_OUTPUT_DIR"], int(own["TORC_WORKFLOW_ID"]), int(own["TORC_RUN_ID"]), own.get(NONCE)
    )
    Hunt([*found, job_mark(int(own["TORC_JOB_ID"]))], [b"TORC_STEP_LEADER=1"], HUNT_FOR).finish()


def main() -> None:
    """What srun starts.  It exits with 0 where how the job ended was said in words; else srun ends the other tasks."""
    for signum in (signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGALRM):
        signal.signal(signum, signal.SIG_IGN)
    orders = Orders()
    job = orders.first()
    said = True
    if job is not None:
        if os.environ.get("SLURM_PROCID", "0") == "0":
            said = run_job(orders, job, environment_of(job))
        else:
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(signum, signal.SIG_IGN)
            hold_node(orders, job)
    os._exit(0 if said else 1)
