"""Mutants: deliberate bugs, each put in place of a named function of the program.  The simulator has to find every one.

A mutant is a list of (owner, name, value): ``value`` takes the place of ``name`` in a module or a class, or of a key in
one of the machine's tables.  ``promise`` says what it breaks; what finds it may be another rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL
from typing import Any

from msgspec.structs import replace

from simulator.kernel import SimulatedKernel
from simulator.plan import CRASHES, ENDINGS, TAKEOVERS
from torc_supervise.helpers import last_will, strays
from torc_supervise.helpers.channel import Channel
from torc_supervise.helpers.keeper import Keeper
from torc_supervise.helpers.kin import Kin
from torc_supervise.helpers.last_will import LastWill
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.helpers.writer import Writer
from torc_supervise.loop import Loop
from torc_supervise.machine import actions as a
from torc_supervise.machine import events as e
from torc_supervise.machine import interrupts, step
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.limits import Limits
from torc_supervise.machine.supervision import Supervision
from torc_supervise.posix.outsiders import Unreached
from torc_supervise.store.journal import Journal

Patch = tuple[Any, Any, Any]
Opening = tuple[Journal, list[bytes]]


@dataclass(frozen=True)
class Mutant:
    name: str
    promise: str
    patches: tuple[Patch, ...]
    theme: tuple[str, ...] = ()  # kinds of events that it needs, () where any will do


MUTANTS: list[Mutant] = []


def mutant(name: str, promise: str, *patches: Patch, theme: tuple[str, ...] = ()) -> None:
    MUTANTS.append(Mutant(name, promise, patches, theme))


def around(owner: Any, name: str, wrapper: Callable[..., Any]) -> Patch:
    """``wrapper`` is called with the true function before the arguments."""
    true = vars(owner)[name]
    return owner, name, lambda *arguments, **more: wrapper(true, *arguments, **more)


def on(phase: type, event: type, handler: Callable[..., Any]) -> Patch:
    """Another handler in ``step``; it is called with the phase, the event and the time."""
    return step.HANDLED, (phase, event), handler


def nothing(*arguments: Any, **more: Any) -> None:
    """A function whose body was lost."""


# -- the machine --------------------------------------------------------------------------------------------


def _reap_at_once(phase: Any, event: e.LeaderExited, now: float) -> step.Step:
    return step._reap(phase, p.Outcome(event.exit, now, getattr(phase, "why", None)))


def _signal_again(phase: p.Terminating, event: e.StopAsked, now: float) -> step.Step:
    signum = phase.policy.termination_signal
    return phase, (a.SignalGroup(phase.pgid, signum), a.SignalGroup(phase.pgid, SIGCONT))


def _without_sigcont(phase: p.Running, event: e.StopAsked, now: float) -> step.Step:
    after, actions = step._stop(phase, event, now)
    return after, tuple(x for x in actions if not (isinstance(x, a.SignalGroup) and x.signum == SIGCONT))


def _sigcont_first(phase: p.Running, event: e.StopAsked, now: float) -> step.Step:
    after, actions = step._stop(phase, event, now)
    return after, (actions[1], actions[0], *actions[2:]) if len(actions) > 2 else actions


def _forget_why(phase: Any, event: e.LeaderExited, now: float) -> step.Step:
    if event.members:
        return step._stopping_exited(phase, event, now)
    return step._reap(phase, p.Outcome(event.exit, now))


mutant("a leader is reaped before its group is empty", "P3", on(p.Running, e.LeaderExited, _reap_at_once))
mutant(
    "a job is over when its leader dies of the signal", "P4", on(p.Terminating, e.LeaderExited, _reap_at_once)
)
mutant(
    "the grace restarts on a second signal",
    "P6",
    (Supervision, "_some_compute_on", property(lambda self: True)),
    on(p.Terminating, e.StopAsked, lambda phase, event, now: (replace(phase, kill_at=event.kill_at), ())),
    theme=("signal_again", "signal"),
)
mutant(
    "the termination signal is sent again on a second request",
    "P6",
    (Supervision, "_some_compute_on", property(lambda self: True)),
    on(p.Terminating, e.StopAsked, _signal_again),
)
mutant(
    "an end that moves away lengthens a grace",
    "P6",
    on(p.Terminating, e.EndMoved, lambda phase, event, now: (replace(phase, kill_at=event.ask_kill_at), ())),
    theme=("move_end", "signal"),
)
mutant(
    "SIGKILL is sent again and again to what does not die",
    "P6",
    on(p.Killing, e.ClockReached, lambda phase, event, now: step._kill(phase, e.KillAsked(phase.why), now)),
)
mutant(
    "what does not die is waited for without end",
    "P12",
    on(p.Killing, e.ClockReached, lambda phase, event, now: (replace(phase, give_up_at=p.NEVER), ())),
)
mutant("no SIGCONT after the termination signal", "P14", on(p.Running, e.StopAsked, _without_sigcont))
mutant("SIGCONT before the termination signal", "P14", on(p.Running, e.StopAsked, _sigcont_first))
mutant(
    "a job that was asked to end counts as completed", "P6", on(p.Terminating, e.LeaderExited, _forget_why)
)
mutant(
    "a full machine fails the job",
    "P11",
    on(
        p.Starting,
        e.SpawnRefused,
        lambda phase, event, now: (p.Finished(), (a.RecordFailedStart(event.errno, "full"),)),
    ),
)
mutant(
    "what a job has left behind is only noted",
    "P5",
    on(
        p.Running,
        e.LeaderExited,
        lambda phase, event, now: _silently(step._running_exited(phase, event, now)),
    ),
)


def _silently(done: step.Step) -> step.Step:
    return done[0], tuple(x for x in done[1] if not isinstance(x, a.SignalGroup))


def _start_next(self: Supervision) -> bool:
    ending, self.ending = self.ending, None
    try:
        return _TRUE_START_NEXT(self)
    finally:
        self.ending = ending


_TRUE_START_NEXT = Supervision.start_next

mutant("jobs start after termination was asked for", "P7", (Supervision, "start_next", _start_next))
mutant(
    "two SIGINT of one key count as two",
    "P6",
    (interrupts, "SECOND_AFTER", 0.0),
    theme=("interrupt_twice",),
)
mutant(
    "jobs start however near the end is",
    "P7",
    (Limits, "closing_at", property(lambda self: p.NEVER)),
    (Limits, "fits_in_time", lambda self, job, now: True),
    theme=("move_end",),
)


# -- the loop -----------------------------------------------------------------------------------------------


def _to_leader(signums: Callable[[int], bool]) -> Callable[..., None]:
    def perform(true: Callable[..., None], self: Loop, job_id: int, action: Any) -> None:
        if isinstance(action, a.SignalGroup) and signums(action.signum):
            action = a.SignalLeader(action.pgid, action.signum)
        true(self, job_id, action)

    return perform


def _forgetful_wakeup(true: Callable[..., None], self: Loop, mask: int) -> None:
    true(self, mask)
    if self._signals:
        self._children_changed = False


def _first_signal_only(true: Callable[..., None], self: Loop) -> None:
    del self._signals[1:]
    true(self)


def _writes_itself(true: Callable[..., None], self: KeeperLink, *arguments: Any) -> None:
    Journal(self._setup.files.journal).close()
    true(self, *arguments)


mutant("SIGKILL goes to the leader only", "P2", around(Loop, "_perform", _to_leader(lambda n: n == SIGKILL)))
mutant(
    "the termination signal goes to the leader only",
    "P2",
    around(Loop, "_perform", _to_leader(lambda n: n not in (SIGKILL, SIGCONT))),
)
mutant(
    "of several signals at a time only one is heard",
    "P1",
    around(Loop, "_report_signals", _first_signal_only),
)
mutant(
    "SIGCHLD beside another signal is forgotten",
    "P1",
    around(Loop, "_on_wakeup", _forgetful_wakeup),
    theme=("signal_and_exit",),
)
mutant("what left its group is not signalled", "P5", (Unreached, "note", nothing))
mutant("the parent opens the journal", "P8", around(KeeperLink, "write", _writes_itself))
mutant(
    "deadlines go by the wall clock",
    "P13",
    (SimulatedKernel, "monotonic", lambda self: self.hub.now + self._epoch_ahead() - 1.9e9),
)


# -- the journal and the keeper -----------------------------------------------------------------------------


def _acknowledge_first(true: Callable[..., None], self: Writer, lines: list[bytes], seq: int) -> None:
    self._on_durable(seq)
    true(self, lines, seq)


def _append_without_fsync(self: Journal, lines: bytes) -> None:
    from torc_supervise.store import journal

    self._tried = journal.os.write(self._file, lines)
    self.committed += self._tried


def _results_twice(
    true: Callable[..., None], self: KeeperLink, t: str, mono: float, record: r.Record
) -> None:
    true(self, t, mono, record)
    if isinstance(record, r.JobEnded):
        true(self, t, mono, record)


def _drop_unconfirmed(true: Callable[..., None], self: KeeperLink, *arguments: Any) -> None:
    self._unconfirmed.clear()
    true(self, *arguments)


def _no_resend(true: Callable[..., Opening], self: Keeper) -> Opening:
    journal, _ = true(self)
    return journal, []


def _resend_all(true: Callable[..., Opening], self: Keeper) -> Opening:
    journal, _ = true(self)
    return journal, [line for _, line in self._setup.unacknowledged]


def _write_only(true: Callable[..., None], self: Journal, lines: bytes) -> None:
    if lines:
        true(self, lines)


def _forget_rest(true: Callable[..., bool], self: Channel) -> bool:
    if true(self):
        self._out.clear()
    return False


def _pretend(self: KeeperLink, *arguments: Any) -> None:
    self._confirm(self._seq)
    self.gone = True


def _keep_torn_line(self: Journal) -> int:
    from torc_supervise.store import journal

    size: int = journal.os.fstat(self._file).st_size
    return size


mutant("acknowledged before fsync", "P9", around(Writer, "_commit", _acknowledge_first))
mutant("no fsync", "P9", (Journal, "append", _append_without_fsync))
mutant("a result is written twice", "P9", around(KeeperLink, "write", _results_twice))
mutant(
    "unconfirmed records are dropped at a keeper's restart",
    "P9",
    around(KeeperLink, "restart", _drop_unconfirmed),
)
mutant("a new keeper does not write what it was given", "P9", around(Keeper, "_open_journal", _no_resend))
mutant("a new keeper writes everything that it was given", "P9", around(Keeper, "_open_journal", _resend_all))
mutant(
    "a new keeper confirms what the last one wrote without fsync",
    "P9",
    around(Journal, "append", _write_only),
)
mutant(
    "a keeper writes on though somebody has taken the workflow over",
    "P9",
    (Writer, "_is_lost", lambda self: False),
    (Keeper, "_sign_lock", nothing),
    theme=TAKEOVERS,
)
mutant("what did not fit into the channel is forgotten", "P9", around(Channel, "flush", _forget_rest))
mutant("a torn last line stays", "P9", (Journal, "_drop_torn_line", _keep_torn_line))
mutant("what a failed write has left stays", "P9", (Journal, "_cut_back", nothing))
mutant("the last resort writes nothing", "P9", (KeeperLink, "write_without_keeper", _pretend))


# -- the last will ------------------------------------------------------------------------------------------


def _grace_anew(true: Callable[..., float], job: Any, live: Any, *more: Any) -> float:
    return true(job, replace(live, asked_at=None), *more)


def _first_job_only(true: Callable[..., Any], self: LastWill, attempts: dict[int, Any]) -> Any:
    members = true(self, attempts)
    if members:
        members.update({job_id: [] for job_id in sorted(members)[1:]})
    return members


mutant("the last will forgets to signal", "P10", (LastWill, "_to_group", nothing))
mutant("the last will sees to the first job only", "P10", around(LastWill, "_members", _first_job_only))
mutant("the last will records nothing", "P9", (LastWill, "_record", nothing))
mutant("the last will begins the grace anew", "P6", around(last_will, "kill_due", _grace_anew))
mutant(
    "the last will gives no grace",
    "P6",
    (last_will, "kill_due", lambda job, live, execution, wall, now: now),
)
mutant(
    "the last will does not look for what is not on record",
    "P10",
    (LastWill, "_adopt", lambda self: {}),
    (LastWill, "_hunt", nothing),
    theme=CRASHES,
)
mutant(
    "the last will kills what is not on record",
    "P6",
    (LastWill, "_adopt", lambda self: {}),
    theme=CRASHES,
)
mutant(
    "a run that is not on record is not looked for", "P10", (strays, "unrecorded_run", nothing), theme=CRASHES
)
mutant("the last will passes nothing on to what left its group", "P10", (LastWill, "_pass_on", nothing))
mutant(
    "the last will trusts the number of a group",
    "P3",
    (Kin, "_is_its_group", lambda self, group, live, attempts: True),
    theme=ENDINGS,
)
mutant("the keeper has no last will", "P10", (Keeper, "_execute_last_will", nothing))
