"""Opening a workflow for writing: its lock, its state, and what a dead supervisor left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

from msgspec import Struct

from torc_supervise.errors import TorcError, WorkflowBusy
from torc_supervise.helpers import strays
from torc_supervise.helpers.last_will import LastWill
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.orders import jobs_text
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Ended, RunState
from torc_supervise.operations import liveness
from torc_supervise.posix import clock
from torc_supervise.posix.identity import own_identity
from torc_supervise.store import journal, layout, requests, snapshot, trust, view
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Lock, Owner, acquire
from torc_supervise.store.records import encode
from torc_supervise.workflow.model import Workflow

Say = Callable[[str], None]


class OpenWorkflow(Struct):
    """A workflow that this process alone may write.  Use as a context manager: leaving releases the lock."""

    files: WorkflowFiles
    state: WorkflowState
    lock: Lock
    seq: int  # of the last record in the journal
    ended_run: int | None = None  # whose supervisor was gone, and which was ended by opening it
    orphans: tuple[r.JobEnded, ...] = ()  # its attempts, as they ended then

    def __enter__(self) -> OpenWorkflow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()

    def append(self, *records: r.Record, at: float | None = None) -> None:
        """Fold records and write them durably.  For commands; a run has its keeper do this.

        Args:
            at: when they happened, monotonic seconds; None for now.
        """
        (t, mono), lines = clock.moment(at), []
        for record in records:
            self.seq += 1
            self.state.apply(t, mono, record)
            lines.append(encode(self.seq, t, mono, record))
        writer = journal.Journal(self.files.journal)
        try:
            writer.append(b"".join(lines))
        except OSError as error:
            raise TorcError(f"cannot write {self.files.journal}: {error.strerror}") from error
        finally:
            writer.close()

    def write_snapshot(self) -> None:
        """Make status.json say what the state says; it is only a copy, so a full disk is no error here."""
        try:
            snapshot.replace(self.files, view.last_document(self.state, self.files))
        except OSError:
            return


def open_workflow(files: WorkflowFiles, command: str, say: Say, *, patient: bool = False) -> OpenWorkflow:
    """Lock an existing workflow and read its journal; attempts that a dead supervisor left are ended and recorded.

    Args:
        command: what this process is about to do, for the lock ("run", "reinitialize", ...).
        patient: wait a while for an owner that is just being ended, or that Slurm has lost sight of.

    Raises:
        WorkflowBusy: somebody else has it.
        JournalError: the journal is damaged.
        TorcError: the directory cannot be written.
    """
    lock = take_lock(files, command, say, patient=patient)
    try:
        state, seq = journal.replay(files.journal)
        opened = OpenWorkflow(files, state, lock, seq)
        for dead in lock.owner.after:
            if (started := strays.unrecorded_run(state, dead)) is not None:
                opened.append(started)
        if state.run_is_open:
            _end_what_was_lost(opened, say)
        _take_up_cancel(opened, say)
        lock.settle()
        return opened
    except BaseException:
        lock.give_back()
        raise


def create_workflow(
    output: str, created: Callable[[int], r.WorkflowCreated], command: str, say: Say
) -> OpenWorkflow:
    """Take a new id, lock it and write the journal's first line.

    Args:
        created: makes the first record, given the id.
    """
    files = layout.claim_new(output)
    lock = take_lock(files, command, say)
    try:
        state = journal.create(files.journal, created(files.workflow_id), clock.wall(), clock.monotonic())
        return OpenWorkflow(files, state, lock, 1)
    except OSError as error:
        lock.release()
        raise TorcError(f"cannot write {files.journal}: {error.strerror}") from error


def take_lock(files: WorkflowFiles, command: str, say: Say, *, patient: bool = False) -> Lock:
    """Lock a workflow without reading it.

    Raises:
        WorkflowBusy: somebody alive has it.
        TorcError: the directory cannot be written, or is not to be trusted.
    """
    me = own_identity()
    owner = Owner(
        me.host,
        me.pid,
        me.start_ticks,
        me.boot_id,
        clock.wall(),
        command,
        os.environ.get("SLURM_JOB_ID"),
        slurm_restarts=liveness.restarts(os.environ),
        slurm_cluster=os.environ.get("SLURM_CLUSTER_NAME"),
        slurm_node=os.environ.get("SLURMD_NODENAME"),
        pid_namespace=me.pid_namespace,
    )
    why, hint = "", None

    def alive(holder: Owner) -> bool:
        nonlocal why, hint
        life, why, hint = liveness.judge(holder)
        return holder.nonce != given_up and life in liveness.HELD

    try:
        given_up = liveness.wait_for_release(files.lock, say) if patient else None
        lock, dead = acquire(files.lock, owner, alive)
        try:
            trust.check(files, files.lock)
        except BaseException:
            lock.give_back()
            raise
    except WorkflowBusy as busy:
        raise WorkflowBusy(f"{busy.message}, {why}" if why else busy.message, hint or busy.hint) from None
    except OSError as error:
        raise TorcError(f"cannot lock {files.directory}: {error.strerror}") from error
    if dead is not None:
        say(f"took the lock over from {dead.describe()}, which is gone")
    return lock


def _end_what_was_lost(opened: OpenWorkflow, say: Say) -> None:
    """The last run never ended: end what still lives of it here, and record what nobody recorded."""
    state = opened.state
    info = state.supervisor
    assert info is not None
    here = own_identity()
    same_boot = info.record.host == here.host and info.record.boot_id == here.boot_id
    ended: list[r.JobEnded] = []

    def write(record: r.Record, at: float | None = None) -> None:
        opened.append(record, at=at)
        if isinstance(record, r.JobEnded):
            ended.append(record)

    LastWill(state, WallTime(), write, say, look=same_boot, output=opened.files.output).execute()
    opened.ended_run, opened.orphans = state.run_id, tuple(ended)
    say(f"run {state.run_id}, whose supervisor is gone, is ended; {_what_became(ended)}")


def _what_became(ended: list[r.JobEnded]) -> str:
    """Of the jobs that ran, in the words of ``results``: "2 jobs ran: 1 in grace, 1 lost"."""
    if not ended:
        return "no job ran"
    found = [(how.value.replace("_", " "), sum(record.ended == how for record in ended)) for how in Ended]
    return f"{jobs_text(len(ended))} ran: {', '.join(f'{count} {how}' for how, count in found if count)}"


def _take_up_cancel(opened: OpenWorkflow, say: Say) -> None:
    """Record the cancel that the last supervisor was asked for and did not live to take up.

    Say its node dies: people cancel before Slurm knows, and who comes next must not run what they were told is being
    ended.  Test: test_requeue.py::test_a_cancel_that_the_dead_owner_was_asked_for_holds_for_who_takes_over.
    """
    state, owner = opened.state, opened.lock.owner
    earlier = {dead.nonce for dead in owner.after}
    if state.supervisor is not None and state.supervisor.record.nonce:
        earlier.add(state.supervisor.record.nonce)  # it may have left while the request was on its way
    try:
        request = requests.find(opened.files, owner, earlier)
    except OSError:
        return  # not ours, or not readable: as a supervisor that runs takes it
    if request is None:
        return
    if state.outcome() is RunState.COMPLETED:
        requests.remove(opened.files)
        return
    when = f"{request.asked[:19].replace('T', ' ')} UTC"
    say(f"the workflow is canceled: that was asked for on {request.host} at {when}, and not heard")
    ended = [r.AllocationEnded(slurm_job_id, "canceled") for slurm_job_id in request.allocations]
    opened.append(*ended, r.WorkflowCanceled(state.run_id))
    requests.remove(opened.files)
    opened.write_snapshot()


def files_seen(workflow: Workflow) -> dict[str, int]:
    """Name -> modification time in ns of all declared files that exist."""
    seen = {}
    for name, path in workflow.files.items():
        try:
            seen[name] = os.stat(path).st_mtime_ns
        except OSError:
            continue
    return seen
