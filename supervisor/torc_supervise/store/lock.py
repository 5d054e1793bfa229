"""The lock: one live writer per workflow, with its name on it.

No flock: it does not hold, or hangs, on the NFS and Lustre that allocations live on.  The lock is a file that link(2)
makes at once and whole, so no reader ever sees half of it, and link is atomic on NFS too.

Race: two commands find the same dead owner and both want to take over.  Each lock carries a nonce.  A taker first makes
the file ``lock.after-<nonce of the dead one>`` by link; only one can.  The winner renames its own lock over the dead
one; the loser sees a live claimant and is refused.  A claimant that dies in between is itself a dead owner whose claim
is taken over in the same way.  Test: test_lock.py::test_only_one_of_many_takes_a_dead_owners_lock_over.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from msgspec import DecodeError, Struct, json
from msgspec.structs import replace

from torc_supervise.errors import WorkflowBusy

_LARGEST = 1 << 16  # bytes of a lock; ours take some hundred


class Owner(Struct, frozen=True):
    """Who holds a workflow, until supervisor and keeper are gone.

    ``start_ticks`` is field 22 of /proc/PID/stat: pid and start time together name a process.  ``nonce``: what a run
    starts carries it as TORC_RUN_NONCE.  ``pid_namespace`` is an inode: pids mean nothing in another one, as in a
    container.  ``after``: dead owners before this one, the last one first, whose runs it has not seen to yet; what they
    have started may be known by nothing but their nonces (docs/decisions/0023).
    """

    host: str
    pid: int
    start_ticks: int
    boot_id: str | None
    started: str  # UTC ISO 8601
    command: str  # "run", "reinitialize", ...
    slurm_job_id: str | None = None
    nonce: str = ""
    keeper_pid: int | None = None  # of a run: it may write longer than its supervisor lives
    keeper_ticks: int = 0
    slurm_restarts: int = 0  # how often Slurm had started that job again
    slurm_cluster: str | None = None
    slurm_node: str | None = None  # its name, of a process that slurmd has started: the job's end is its end
    pid_namespace: int | None = None
    after: tuple[Owner, ...] = ()

    def describe(self) -> str:
        where = f"pid {self.pid} on {self.host}"
        if self.keeper_pid is not None:
            where += f", its keeper {self.keeper_pid}"
        if self.slurm_job_id:
            where += f", Slurm job {self.slurm_job_id}"
        return f"'torc-supervise {self.command}' ({where}, since {self.started[:19].replace('T', ' ')} UTC)"


_DECODER = json.Decoder(Owner)


class Lock:
    """Holds the lock from :func:`acquire` until :meth:`release`."""

    def __init__(self, path: str, owner: Owner) -> None:
        self._path = path
        self._left = False
        self.owner = owner
        self.taken_from: Owner | None = None  # who was found dead with it
        self.predecessors: frozenset[str] = frozenset()  # nonces of the dead owners that were seen to

    def release(self) -> None:
        """Remove the lock, if it is still ours and was not left to the keeper."""
        if not self._left and self.is_ours():
            os.unlink(self._path)

    def settle(self) -> None:
        """What the dead owners before us have left was seen to."""
        self.taken_from = None
        self.predecessors |= {dead.nonce for dead in self.owner.after}
        self.owner = replace(self.owner, after=())

    def give_back(self) -> None:
        """We could not see to it, or were not to: put the dead owner's lock back, by which it is found.

        Where that cannot be written ours stays, which names it as well, and is a dead owner's once we are gone.
        """
        if self.taken_from is None:
            self.release()
            return
        with contextlib.suppress(OSError):
            if self.is_ours():
                os.rename(_write_temporary(self._path, self.taken_from), self._path)

    def is_ours(self) -> bool:
        current = read_owner(self._path)
        return current is not None and current.nonce == self.owner.nonce

    def taken_by(self) -> Owner | None:
        """Who has it in our place: whoever gets an answer must not write any more.  None where nobody has.

        Doubt is no answer: a lock that cannot be read says nothing.  One that is missing was removed by hand, or by
        somebody who took it over and has left again without a word; it is put back, so that who comes is refused.
        """
        try:
            text = _read_at_once(self._path)
            if text is None:
                self._put_back()
                text = _read_at_once(self._path)
        except OSError:
            return None
        holder = None if text is None else _parse(text)
        return None if holder is None or holder.nonce == self.owner.nonce else holder

    def _put_back(self) -> None:
        temporary = _write_temporary(self._path, self.owner)
        try:
            _link(temporary, self._path)
        finally:
            _unlink(temporary)

    def name_keeper(self, pid: int, start_ticks: int) -> None:
        """Put the keeper's name beside ours: whoever finds us dead must not write while it still does.

        Race: the supervisor was killed before this, and somebody takes the workflow over while our signature is being
        written; renamed over his it would give the lock back to the dead one, and he would take himself for robbed.
        So we go the way of a taker: a claim on our own lock first, then a look whether it is still ours.  Who finds
        the claim finds a living keeper named in it; where we find his, he has the workflow.
        Test: test_lock.py::test_a_keepers_signature_never_replaces_a_new_owner.

        Raises:
            OSError: it cannot be written.  EBUSY: somebody is taking the workflow over, or has.
        """
        signed = replace(self.owner, keeper_pid=pid, keeper_ticks=start_ticks)
        made = [_write_temporary(self._path, replace(signed, nonce=os.urandom(8).hex()))]
        try:
            made.append(_write_temporary(self._path, signed))
            made += self._claim_own(made[0])
            current = read_owner(self._path)
            if current is None:
                raise OSError(errno.ENOENT, "it was removed", self._path)
            if current.nonce != self.owner.nonce:
                raise OSError(errno.EBUSY, "somebody else has taken the workflow over", self._path)
            os.rename(made[1], self._path)
            self.owner = signed
        finally:
            for path in made:
                _unlink(path)

    def _claim_own(self, temporary: str) -> list[str]:
        """Link to the place where a taker would; returns our claims, those of earlier keepers that died over it too."""
        claims = [f"{self._path}.after-{self.owner.nonce}"]
        while not _link(temporary, claims[-1]):
            holder = read_owner(claims[-1])
            me = self.owner
            if holder is None or (holder.host, holder.pid, holder.start_ticks) != (
                me.host,
                me.pid,
                me.start_ticks,
            ):
                raise OSError(errno.EBUSY, "somebody is taking the workflow over", claims[-1])
            claims.append(f"{self._path}.after-{holder.nonce}")
        return claims

    def leave_to_keeper(self) -> None:
        """We go and it still writes: it releases the lock when it is done."""
        self._left = True


def acquire(path: str, owner: Owner, is_alive: Callable[[Owner], bool]) -> tuple[Lock, Owner | None]:
    """Take the lock; a dead owner's is taken over.

    Args:
        is_alive: tells whether the process that a lock names still exists, as far as that can be known from here; it
            must say True in doubt (another host).

    Returns:
        the lock, and the dead owner it was taken from, if any.

    Raises:
        WorkflowBusy: somebody alive has it, named in the message.
        OSError: the directory cannot be written.
    """
    owner = replace(owner, nonce=os.urandom(8).hex())
    temporary = _write_temporary(path, owner)
    try:
        while True:
            dead = _claim(path, temporary, is_alive)
            if dead == []:
                return Lock(path, owner), None
            if dead is not None:
                return _take_over(path, owner, dead), dead[0]
    finally:
        _unlink(temporary)


def _take_over(path: str, owner: Owner, dead: list[Owner]) -> Lock:
    """Put our lock in the place of the dead owner's, which names it: we may be killed before we have seen to its run.

    Args:
        dead: as :func:`_claim` returns them; whoever died with a claim only has left nothing.
    """
    before = dead[0]
    lock = Lock(path, replace(owner, after=(replace(before, after=()), *before.after)))
    try:
        os.rename(_write_temporary(path, lock.owner), path)
    except OSError:
        _unlink(f"{path}.after-{dead[-1].nonce}")
        raise
    lock.taken_from = before
    _remove_claims(path)
    return lock


def _claim(path: str, temporary: str, is_alive: Callable[[Owner], bool]) -> list[Owner] | None:
    """Link our lock to the place that makes us the next owner.

    Returns:
        [] where the lock was free and is ours; the dead owners that we may replace, the lock's own first; None where
        somebody moved in between and it has to be tried again.
    """
    chain: list[tuple[str, Owner]] = []
    current = path
    while not _link(temporary, current):
        text = _read(current)
        if text is None:
            return None  # released just now
        holder = _parse(text)
        if holder is None:
            raise WorkflowBusy(
                f"the lock {current} cannot be read, so nobody knows whose it is",
                "if no torc-supervise works on this workflow, remove that file",
            )
        if is_alive(holder):
            raise WorkflowBusy(
                f"the workflow belongs to {holder.describe()}",
                "wait for it, or end it with 'torc-supervise cancel'; "
                f"if that process is known to be gone, remove {path}",
            )
        chain.append((current, holder))
        current = f"{path}.after-{holder.nonce}"
    if all(read_owner(place) == holder for place, holder in chain):
        return [holder for _, holder in chain]
    _unlink(current)  # another taker had finished before we claimed: its lock is in place now
    return None


def read_owner(path: str) -> Owner | None:
    """Who holds the lock; None if nobody does, or nobody can tell."""
    text = _read(path)
    return None if text is None else _parse(text)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _read_at_once(path: str) -> bytes | None:
    """As :func:`_read`; of something that is no file and would make us wait (a FIFO), nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)


def _parse(text: bytes) -> Owner | None:
    try:
        return _DECODER.decode(text)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _write_temporary(path: str, owner: Owner) -> str:
    temporary = f"{path}.{owner.host}.{owner.pid}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "xb") as file:
            file.write(json.encode(owner))
            file.flush()
            os.fsync(file.fileno())  # a power failure must not leave a lock that nobody can read
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _link(source: str, target: str) -> bool:
    """Whether ``target`` is now our lock.

    Race: NFS may lose the answer to a link that was made, send it again and report EEXIST: then it is ours all
    the same.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        try:
            return os.path.samefile(source, target)
        except FileNotFoundError:
            return False
    return True


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # renamed into place


def _remove_claims(path: str) -> None:
    """The claims on dead owners have done their work once the lock itself is ours."""
    directory, name = os.path.split(path)
    for entry in os.listdir(directory):
        if entry.startswith(f"{name}.after-"):
            _unlink(os.path.join(directory, entry))
