"""The keeper: everything slow that the parent must never wait for.

It folds the records it is sent into a state of its own (a copy from the fork), has its writer make them durable, serves
``status`` over the control socket, looks at the files that jobs declare, and prints what the parent says.  Each thing
that may hang has a thread of its own: the disk (writer), file systems of jobs (inspector), the terminal (speaker).
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import asdict

from torc_supervise.helpers import alone, messages, strays
from torc_supervise.helpers.chores import Chores
from torc_supervise.helpers.control import ControlSocket
from torc_supervise.helpers.inspector import Inspector
from torc_supervise.helpers.last_will import LastWill
from torc_supervise.helpers.lines import LineReader
from torc_supervise.helpers.outside import Outside
from torc_supervise.helpers.speaker import Speaker, terminal_width
from torc_supervise.helpers.writer import Writer
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.events import Verified
from torc_supervise.machine.records import AllocationEnded, JobEnded, JobSignaled, Record, WorkflowCanceled
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status, StopReason
from torc_supervise.posix.clock import moment
from torc_supervise.posix.identity import own_identity
from torc_supervise.store import requests, view
from torc_supervise.store.journal import Journal
from torc_supervise.store.jsontext import dumps_text
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Lock
from torc_supervise.store.records import decode, encode

LAST_WORDS_LIMIT = 2.0  # seconds for a terminal or file system that does not take our last words

REST = 0.005
"""Seconds between two looks at what the parent says, while records come thick and fast.

To wake up for each of a thousand records a second costs more than all that is done with them, and takes the core from
the jobs, or from the parent.  Nothing that the parent waits for comes later by more than this.
"""


class KeeperSetup(Struct, frozen=True):
    """What a keeper needs to begin: the state as of the fork and records that may not be durable yet.

    ``seq``: of the last record that is folded into ``state``.  ``earlier``: what the end of the allocation was before,
    each until a moment (monotonic seconds).
    """

    files: WorkflowFiles
    state: WorkflowState
    lock: Lock
    wall: WallTime
    seq: int = 0
    unacknowledged: tuple[tuple[int, bytes], ...] = ()  # (seq, line), already folded into ``state``
    progress: bool = False
    earlier: tuple[tuple[float, WallTime], ...] = ()
    control: str = ""  # directory of the control socket


class Keeper:
    """Runs in a forked child until the parent says leave, or is gone."""

    def __init__(self, setup: KeeperSetup, parent: socket.socket) -> None:
        self._files, self._state, self._lock = setup.files, setup.state, setup.lock
        self._wall, self._earlier = setup.wall, setup.earlier
        self._parent = parent
        self._seq = setup.seq
        self._setup = setup
        self._cancel: tuple[str, ...] | None = (
            None  # queued allocations of a cancel; None once it is on record
        )
        self._canceled_seq: int | None = None  # number of its record, until that is durable
        self._unsigned = False  # the lock could not be written, and that was said
        self._selector = selectors.DefaultSelector()
        self._guard = threading.Lock()  # the state: folded here, read by the writer for snapshots
        self._to_parent = threading.Lock()
        self._leaving = False
        self._parent_alive = True
        self._began = time.monotonic()
        self._looked_at = 0.0  # monotonic seconds: when we last read what the parent had said
        self._resting = threading.Event()  # never set
        self._speaker = Speaker(self._progress if setup.progress else None)
        self._inspector = Inspector(self._tell_verified)
        self._chores = Chores(self._tell)
        self._control = self._open_control(setup.control)
        self._writer = Writer(
            self._open_journal,
            self._files,
            self._tell_durable,
            self._tell_trouble,
            self._document,
            time.monotonic,
            setup.seq,
            new_owner=self._new_owner,
            on_lost=self._tell_lost,
            on_unreadable=self._give_up,
        )
        self._outside = Outside(self._look_outside)

    def run(self) -> None:
        """Serve until the parent is done or gone."""
        self._writer.start()
        self._outside.start()
        reader = LineReader(self._parent)
        self._selector.register(self._parent, selectors.EVENT_READ, None)
        while not self._leaving:
            for key, mask in self._selector.select():
                if key.data is not None:
                    key.data(mask)
                    continue
                self._rest()
                lines = reader.read()
                self._take(lines)
                if reader.ended and not self._leaving:
                    self._parent_alive = False
                    self._execute_last_will()
                    self._leaving = True
        self._finish()

    # -- from the parent ------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """The parent has something to say: let more of it gather where the last look was just now."""
        since = time.monotonic() - self._looked_at
        if since < REST:
            self._resting.wait(REST - since)
        self._looked_at = time.monotonic()

    def _take(self, lines: list[bytes]) -> None:
        """Fold and pass on a batch.  Everything that arrived together is committed together."""
        records = []
        with self._guard:
            for line in lines:
                if line.startswith(b"{"):
                    self._fold(line)
                    records.append(line + b"\n")
        if records:
            self._writer.put(records, self._seq)
        for line in lines:
            match line[:1]:
                case b"V":
                    self._inspector.ask(messages.Inspection(**messages.body(line)))
                case b"Q":
                    self._outside.nudge()
                case b"X":
                    self._chores.begin(**messages.body(line))
                case b"E":
                    since, wall = messages.moved_end(line)
                    self._wall, self._earlier = wall, (*self._earlier, (since, self._wall))
                case b"P":
                    self._speaker.say(line[1:].decode(errors="replace"))
                case b"L":
                    self._leaving = True

    def _fold(self, line: bytes) -> None:
        self._seq, t, mono, record = decode(line)
        if record is None:
            return
        self._state.apply(t, mono, record)
        if isinstance(record, WorkflowCanceled):
            self._cancel, self._canceled_seq = None, self._seq
        elif isinstance(record, JobSignaled) and record.why != StopReason.LEFTOVER:
            checkpoint = self._state.job(record.job_id).checkpoint
            if checkpoint is not None:
                self._inspector.signaled(record.job_id, checkpoint)
        elif isinstance(record, JobEnded) and record.status == Status.COMPLETED:
            self._delete_stdio(record)

    def _delete_stdio(self, ended: JobEnded) -> None:
        """``delete_on_success``: what a job that completed has printed is not wanted."""
        state, job = self._state, self._state.job(ended.job_id)
        wanted = job.delete_stdio_on_success
        if wanted is None:
            wanted = state.workflow.execution.delete_stdio_on_success
        if wanted:
            paths = view.stdio_fields(state, self._files, job, ended.run_id, ended.attempt_id).values()
            self._inspector.delete(frozenset(path for path in paths if path is not None))

    # -- the beginning, in the writer's thread: the disk may hang, and jobs have to be ended all the same (P10) -----

    def _open_journal(self) -> tuple[Journal, list[bytes]]:
        """Returns the journal, and what the last keeper was given, did not confirm and did not write.

        Raises:
            OSError: not now; ENOENT: it was removed; EBUSY: somebody else has written to it.
            JournalError: its last line was changed by something else.
        """
        self._sign_lock()
        journal = Journal(self._files.journal)
        try:
            on_disk, given = journal.last_seq(), dict(self._setup.unacknowledged)
            last = journal.last_line()
            if on_disk > self._setup.seq or given.get(on_disk, last) != last:
                raise OSError(errno.EBUSY, "somebody else has written to it", self._files.journal)
            if given:
                journal.append(b"")  # the last keeper may have been killed between its write and its fsync
        except BaseException:
            journal.close()
            raise
        self._tell_durable(on_disk)
        return journal, [line for seq, line in given.items() if seq > on_disk]

    def _sign_lock(self) -> None:
        """Put our name on the lock, so that nobody takes the workflow over while we write for a parent that is dead.

        Race: the parent was killed before we came here and somebody took over, or is just doing so.  Two must not
        write: the new owner ends and records what there is (``Lock.name_keeper``).  A lock that was removed was put
        back when the writer asked whose it is.  One that cannot be written is no reason not to run.
        Test: test_faults.py::test_p10_a_workflow_is_not_taken_over_while_the_keeper_of_a_killed_parent_still_writes.
        """
        me = own_identity()
        try:
            self._lock.name_keeper(me.pid, me.start_ticks)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise
            if not self._unsigned:
                self._unsigned = True
                self._tell_trouble("lock_not_written", f"{self._files.lock}: {error.strerror}")

    def _give_up(self, error: Exception) -> None:
        """The journal cannot be read: the parent is told, and may try another keeper.  A last will comes first."""
        if isinstance(error, OSError):
            self._tell_trouble("journal_not_written", f"{self._files.journal}: {error.strerror}")
        else:
            self._tell_trouble("journal_unreadable", str(error))
        if self._parent_alive:
            os._exit(70)

    # -- to the parent --------------------------------------------------------------------------------------

    def _tell(self, line: bytes) -> None:
        with self._to_parent:
            try:
                self._parent.sendall(line)
            except OSError:
                self._parent_alive = False  # its last will follows when the reader sees the end

    def _tell_durable(self, seq: int) -> None:
        """In the writer's thread."""
        if self._canceled_seq is not None and seq >= self._canceled_seq:
            self._canceled_seq = None
            requests.remove(self._files)
        self._tell(b"A%d\n" % seq)

    def _tell_trouble(self, code: str, message: str) -> None:
        self._tell(messages.line("W", {"code": code, "message": message}))

    def _pass_on_cancel(self, allocations: Iterable[object]) -> None:
        """Whoever asked was told that it will be done: we remember it until it is on record (:meth:`_fold`)."""
        named = tuple(x for x in allocations if isinstance(x, str))
        if not self._state.canceled:
            self._cancel = named
        self._tell(messages.line("C", named))

    def _tell_lost(self, owner: str) -> None:
        self._tell(messages.line("O", owner))

    def _tell_verified(self, job_id: int, verified: Verified) -> None:
        self._tell(messages.line("V", {"job_id": job_id, **asdict(verified)}))

    # -- outside --------------------------------------------------------------------------------------------

    def _new_owner(self) -> str | None:
        holder = self._lock.taken_by()
        return None if holder is None else holder.describe()

    def _look_outside(self) -> None:
        """In a thread of its own: has somebody left a request?  And the writer's: has somebody taken it over?"""
        with contextlib.suppress(OSError):
            request = requests.find(self._files, self._lock.owner, self._lock.predecessors)
            if request is not None and self._cancel is None:
                self._pass_on_cancel(request.allocations)
                if self._state.canceled:
                    requests.remove(self._files)  # else when that is on record: see _tell_durable
        self._writer.check()

    # -- to people ------------------------------------------------------------------------------------------

    def _open_control(self, directory: str) -> ControlSocket | None:
        try:
            return ControlSocket(self._selector, self._answer, directory)
        except OSError as error:
            self._speaker.say(f"warning: no live status, the control socket cannot be made: {error}")
            return None

    def _answer(self, request: object) -> bytes:
        match request:
            case {"ask": "status", "jobs": False}:
                return _json_line(self._head())
            case {"ask": "status"}:
                return b"".join(self._document())
            case {"ask": "cancel", "allocations": [*allocations]}:
                self._pass_on_cancel(allocations)
                return _json_line({"canceled": True})
            case {"ask": "cancel"}:
                self._pass_on_cancel(())
                return _json_line({"canceled": True})
            case _:
                return _json_line({"error": "unknown request"})

    def _supervisor(self) -> dict[str, object] | None:
        fields = view.supervisor_fields(self._state, alive=self._parent_alive and self._state.run_is_open)
        if fields is not None and self._control is not None:
            fields["control"] = self._control.path if self._state.run_is_open else None
        return fields

    def _head(self) -> dict[str, object]:
        with self._guard:
            return view.status_head(self._state, self._files, self._supervisor())

    def _document(self) -> Iterator[bytes]:
        with self._guard:
            return view.status_document(self._state, self._files, self._supervisor())

    def _progress(self) -> str:
        with self._guard:
            state = self._state
            total, counts = len(state.workflow.jobs), state.counts
            names = [state.job(job_id).name for job_id in list(state.live)[:4]]
            more = len(state.live) - len(names)
        done = counts[Status.COMPLETED]
        failed = counts[Status.FAILED] + counts[Status.CANCELED]
        parts = [f"{done}/{total} done", f"{counts[Status.RUNNING]} running"]
        if failed:
            parts.append(f"{failed} failed")
        if counts[Status.TERMINATED]:
            parts.append(f"{counts[Status.TERMINATED]} terminated")
        parts.append(clock_text(time.monotonic() - self._began))
        if names:
            parts.append(", ".join(names) + (f" and {more} more" if more > 0 else ""))
        return " · ".join(parts)[: terminal_width() - 1]

    # -- the end --------------------------------------------------------------------------------------------

    def _execute_last_will(self) -> None:
        """The parent is gone without a word: end its jobs under the same rules and say what became of them (P10)."""

        def write(record: Record, at: float | None = None) -> None:
            line = encode(self._seq + 1, *moment(at), record)
            with self._guard:
                self._fold(line)
            self._writer.put([line], self._seq)

        # Killed right after its first start, it had not told us of the run either.
        if (started := strays.unrecorded_run(self._state, self._lock.owner)) is not None:
            write(started)
        if self._cancel is not None:  # the parent did not live to say so
            for slurm_job_id in self._state.allocations.not_canceled(self._cancel):
                write(AllocationEnded(slurm_job_id, "canceled"))
            write(WorkflowCanceled(self._state.run_id))
        say, output = self._speaker.say, self._files.output
        LastWill(self._state, self._wall, write, say, earlier=self._earlier, output=output).execute()

    def _finish(self) -> None:
        if self._control is not None:
            self._control.close()
        self._outside.finish(LAST_WORDS_LIMIT)
        self._writer.leave()
        nonce = self._lock.owner.nonce
        if not alone.wait_for_writer(self._writer, self._parent, self._speaker, self._files, nonce):
            os._exit(70)  # the lock names two dead processes then
        self._inspector.finish(LAST_WORDS_LIMIT)
        self._speaker.finish(LAST_WORDS_LIMIT)
        with contextlib.suppress(OSError):  # it names two dead processes then: who comes next takes it over
            self._lock.release()


def main(setup: KeeperSetup, parent: socket.socket) -> None:
    """What the forked child runs."""
    Keeper(setup, parent).run()


def _json_line(document: object) -> bytes:
    return dumps_text(document) + b"\n"


def clock_text(seconds: float) -> str:
    """62 -> "1:02", 3723 -> "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
