"""Links: what the parent keeps of its helpers: a channel, a pid, and what they have not confirmed yet."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from msgspec.structs import asdict, replace

from torc_supervise.helpers import control, keeper, messages, sampler
from torc_supervise.helpers.channel import Channel
from torc_supervise.helpers.fork import fork_helper
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.last_resort import ALONE, LastResort, Unconfirmed, Voice
from torc_supervise.helpers.messages import Inspection
from torc_supervise.machine.backoff import Backoff
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.orders import Do
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.records import JobSignaled, Record
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import StopReason
from torc_supervise.store.records import encode
from torc_supervise.store.view import last_document
from torc_supervise.workflow.model import Job, JobId


class KeeperLink:
    """Invariant: every record with a number above ``confirmed`` is in ``_unconfirmed``, in order."""

    def __init__(
        self, setup: KeeperSetup, last_seq: int, started: Callable[[int], None], close: Iterable[int] = ()
    ) -> None:
        self._setup = replace(setup, control=control.new_directory(), seq=last_seq)
        self._started = started  # told the pid of every new keeper, so that the reaper knows it
        self._seq = last_seq
        self.confirmed = last_seq
        self._unconfirmed: deque[tuple[int, bytes]] = deque()
        self._questions: dict[JobId, Inspection] = {}
        self._chores: dict[int, Do] = {}  # asked for and not answered
        self._given: set[int] = set()  # those of them that some keeper was told of
        self._signaled: dict[JobId, float] = {}  # epoch seconds just before its first signal
        self._unsaid: list[str] = []  # for people, while there is no keeper
        self._signals_begin = 0.0  # epoch seconds: no signal of the records to come was sent before
        self._told_to_leave = False
        self.voice = Voice()
        self.pid = 0
        self.gone = False
        self.disowned = False  # somebody has taken the workflow over: no keeper writes for us any more
        self.channel = self._fork(close)

    # -- saying ---------------------------------------------------------------------------------------------

    def write(self, t: str, mono: float, record: Record) -> int:
        """Queue a record; it is kept until the keeper confirms that it is durable.  Returns its number."""
        self._seq += 1
        line = encode(self._seq, t, mono, record)
        self._unconfirmed.append((self._seq, line))
        self.channel.send(line)
        if type(record) is JobSignaled and record.why != StopReason.LEFTOVER:
            self._signaled.setdefault(record.job_id, self._signals_begin)
        return self._seq

    def before_signals(self, ahead: float) -> None:
        """Signals may go out now, and their records will follow.  Others may have sent theirs ``ahead`` seconds ago.

        A job may have saved by the time the record of its signal is written: what is newer than this moment was saved
        after the signal.
        """
        self._signals_begin = time.time() - ahead

    def say(self, text: str) -> None:
        if self.voice.raised or (self.disowned and self.channel.closed):
            self.say_ourselves(text)
        elif self.channel.closed:
            self._unsaid.append(text)
        else:
            self._have_said(text)

    def say_ourselves(self, text: str) -> None:
        """With our own voice, after what nobody has said yet; kept for later where it cannot be raised (P11)."""
        self._unsaid.append(text)
        self._say_unsaid()

    def finish_speaking(self) -> None:
        """The run is over: have everything said, for a limited time."""
        if self._unsaid:
            self._say_unsaid()
        self.voice.finish()

    def _have_said(self, text: str) -> None:
        self.channel.send(b"P" + text.replace("\n", " ").encode(errors="replace") + b"\n")

    def _say_unsaid(self) -> None:
        if self.voice.raise_():
            for text in self._unsaid:
                self.voice.say(text)
            self._unsaid.clear()

    def inspect(self, job: Job, state: WorkflowState, *, asked: bool) -> None:
        """Ask for the job's declared files; the answer comes as a ``V`` line."""
        outputs = () if asked else tuple((name, state.workflow.files[name]) for name in job.output_files)
        signaled_at = self._signaled.pop(job.job_id, None)
        question = Inspection(job.job_id, outputs, job.checkpoint, signaled_at)
        self._questions[job.job_id] = question
        self.channel.send(messages.line("V", asdict(question)))

    def look_for_requests(self) -> None:
        """Somebody may have left a request to cancel.  A new keeper looks by itself."""
        self.channel.send(b"Q\n")

    def move_end(self, wall: WallTime) -> None:
        """The end of the allocation is another one; the last will reckons with it."""
        earlier = (*self._setup.earlier, (time.monotonic(), self._setup.wall))
        self._setup = replace(self._setup, wall=wall, earlier=earlier)
        if not self.channel.closed:  # else the next keeper begins with it
            self.channel.send(messages.end_moved(earlier[-1][0], wall))

    def ask_for(self, chore: Do) -> None:
        """Have a chore done; what it came to comes as an ``X`` line."""
        self._chores[chore.chore_id] = chore
        if not self.channel.closed:  # else the next keeper is asked
            self._send_chore(chore)

    def leave(self) -> None:
        """Everything was said."""
        self._told_to_leave = True
        self.channel.send(b"L\n")

    # -- hearing --------------------------------------------------------------------------------------------

    def receive(self) -> Iterable[bytes]:
        """Lines for the loop; confirmations are taken note of here."""
        for line in self.channel.receive():
            if line.startswith(b"A"):
                self._confirm(int(line[1:]))
                continue
            if line.startswith(b"V"):
                self._questions.pop(messages.body(line)["job_id"], None)
            elif line.startswith(b"O"):
                self.disowned = True
            elif line.startswith(b"X"):
                chore_id = messages.body(line)["chore_id"]
                self._chores.pop(chore_id, None)
                self._given.discard(chore_id)
            yield line

    @property
    def unconfirmed(self) -> int:
        """Records that may still become durable."""
        return 0 if self.disowned else len(self._unconfirmed)

    def _confirm(self, seq: int) -> None:
        self.confirmed = max(self.confirmed, seq)
        while self._unconfirmed and self._unconfirmed[0][0] <= seq:
            self._unconfirmed.popleft()

    # -- living and dying -----------------------------------------------------------------------------------

    def died(self) -> None:
        """It was collected, and heard out.  Sets ``gone`` where it may stay dead: it left, with everything written."""
        self.pid = 0
        self.channel.close()
        self.gone = self.disowned or (self._told_to_leave and not self._unconfirmed)
        if self.disowned:
            self._say_unsaid()
        if self.gone:
            control.remove(self._setup.control)  # on a local disk; there only where it was killed

    def take_lost(self) -> list[int]:
        """Chores that are done once, and that the dead keeper did not answer: nobody knows what became of them."""
        lost = [chore_id for chore_id in self._given if self._chores[chore_id].once]
        for chore_id in lost:
            del self._chores[chore_id]
        self._given.clear()
        return lost

    def speak_for_itself(self) -> None:
        """No keeper can be had: what was to be said goes to stderr by our own voice, until one works again.

        Where that cannot be raised, the next failure tries again: what is to be said is kept.
        """
        if not self.voice.raised and self.voice.raise_():
            self.voice.say(f"warning: {ALONE}")
            self._say_unsaid()

    def write_without_keeper(self, state: WorkflowState, until: float) -> str | None:
        """Write what was not confirmed, after the last keeper is gone for good.

        Args:
            until: monotonic seconds.

        Returns:
            why it is not written, None if everything is durable and the workflow is free.
        """
        assert not self.pid, "two would write"
        files, lines = self._setup.files, tuple(self._unconfirmed)
        what = Unconfirmed(files, self._setup.lock, lines, lambda: last_document(state, files))
        problem = LastResort(what, until).finish()
        if problem is None:
            self._confirm(self._seq)
            self.gone = True
        control.remove(self._setup.control)
        return problem

    def restart(self, close: Iterable[int], state: WorkflowState) -> None:
        """Fork another keeper with what was not confirmed, and repeat what was asked.

        Raises:
            OSError: no process can be made; everything is as before.
        """
        unconfirmed = tuple(self._unconfirmed)
        self._setup = replace(self._setup, state=state, seq=self._seq, unacknowledged=unconfirmed)
        self.channel = self._fork(close)
        for text in self._unsaid:
            self._have_said(text)
        self._unsaid.clear()
        for question in self._questions.values():
            self.channel.send(messages.line("V", asdict(question)))
        for chore in self._chores.values():
            self._send_chore(chore)
        if self._told_to_leave:
            self.channel.send(b"L\n")

    def _send_chore(self, chore: Do) -> None:
        self._given.add(chore.chore_id)
        fields = {"chore_id": chore.chore_id, "kind": chore.kind, "body": chore.body}
        self.channel.send(messages.line("X", fields))

    def _fork(self, close: Iterable[int]) -> Channel:
        setup = self._setup
        self.pid, channel = _fork_connected("keeper", lambda end: keeper.main(setup, end), close)
        self._started(self.pid)
        return channel

    def close(self) -> None:
        """Hang up.  A keeper that was not told to leave executes the last will."""
        self.channel.close()

    def kill(self) -> None:
        """SIGKILL to a keeper that is of no use."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def wake(self) -> None:
        """SIGCONT: somebody may have stopped it, and we want to leave."""
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)


class SamplerLink:
    """The sampler is told which processes to look at, and says what it saw.  A new one is told again."""

    def __init__(
        self, interval: float, enforce: bool, close: Iterable[int], started: Callable[[int], None]
    ) -> None:
        self._interval = interval
        self._enforce = enforce
        self._started = started
        self._watched: dict[JobId, bytes] = {}  # what it was told of each job that it watches
        self.pid = 0
        self.channel = self._fork(close)

    def watch(self, job: Job, pid: int) -> None:
        limit = job.requirements.memory_bytes if self._enforce and job.requirements.memory_stated else None
        line = messages.line("J", {"job_id": job.job_id, "pid": pid, "limit": limit})
        self._watched[job.job_id] = line
        self._send(line)

    def forget(self, job_id: JobId) -> None:
        if self._watched.pop(job_id, None) is not None:
            self._send(b"D%d\n" % job_id)

    def receive(self) -> Iterable[tuple[JobId, int, float, bool]]:
        for line in self.channel.receive():
            job_id, memory, cpu, at_limit = messages.body(line)
            yield job_id, memory, cpu, at_limit

    def died(self) -> None:
        """It was collected."""
        self.pid = 0
        self.channel.close()

    def restart(self, close: Iterable[int]) -> None:
        """Fork another one.

        Raises:
            OSError: no process can be made; everything is as before.
        """
        self.channel = self._fork(close)
        for line in self._watched.values():
            self.channel.send(line)

    def _send(self, line: bytes) -> None:
        if not self.channel.closed:  # else the next one is told
            self.channel.send(line)

    def _fork(self, close: Iterable[int]) -> Channel:
        interval = self._interval
        self.pid, channel = _fork_connected("sampler", lambda end: sampler.main(end, interval), close)
        self._started(self.pid)
        return channel


class Replacement:
    """When a dead helper is replaced: the first one at once, those after it slower and slower while none works.

    Invariant: ``due`` is NEVER unless a new one is wanted, monotonic seconds.
    """

    def __init__(self, most: int | None = None) -> None:
        self.due = NEVER
        self._most = most  # deaths in a row after which no other one is wanted
        self._backoff = Backoff()

    def wanted(self, now: float) -> bool:
        """One has died, or could not be started; returns False where it was the last."""
        if self._backoff.failures == self._most:
            return False
        pause = self._backoff.failed(now)
        self.due = now if self._backoff.failures == 1 else now + pause
        return True

    @property
    def failures(self) -> int:
        """Deaths in a row."""
        return self._backoff.failures

    def worked(self) -> None:
        self._backoff.succeeded()

    def take(self, now: float) -> bool:
        """Whether it is time for a new one; asked once."""
        if now < self.due:
            return False
        self.due = NEVER
        return True


def _fork_connected(
    name: str, main: Callable[[socket.socket], None], close: Iterable[int]
) -> tuple[int, Channel]:
    """Fork a helper at the other end of a socket pair; its pid and our end.

    Raises:
        OSError: no process can be made; nothing stays open.
    """
    ours, theirs = socket.socketpair()
    try:
        pid = fork_helper(name, lambda: main(theirs), [*close, ours.fileno()])
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, Channel(ours)
