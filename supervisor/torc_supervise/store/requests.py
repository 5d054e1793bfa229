"""A request to cancel, left beside the journal for a supervisor on another host.

Anybody who may write the workflow's directory could leave one, and that directory may be shared: it counts only where
it is a regular file of our own user.  It is addressed: to the holder of a lock by that lock's nonce, or to whoever
takes the workflow up in one allocation by that allocation's id.  So a request that nobody took up cancels no later run;
but whoever takes over from an owner that did not live to take one up does so in its place: the asker was told that it
would be done.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container

from msgspec import Struct
from msgspec.structs import asdict

from torc_supervise.store.jsontext import NotJsonError, dumps, loads
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import Owner

LARGEST = 1 << 16  # bytes


class CancelRequest(Struct, frozen=True):
    """``lock``: nonce of the lock whose holder is meant, None for the supervisor that starts in ``slurm_job_id``.

    ``allocations``: Slurm job ids of queued allocations that the asker has canceled, for the records.
    """

    lock: str | None
    slurm_job_id: str | None
    asked: str  # UTC ISO 8601
    host: str  # where it was asked
    allocations: tuple[str, ...] = ()

    def is_for(self, owner: Owner, earlier: Container[str] = ()) -> bool:
        """Whether the holder of this lock is meant, or one that it comes after: ``earlier`` are the nonces of those."""
        if self.lock is not None:
            return self.lock == owner.nonce or self.lock in earlier
        return self.slurm_job_id is not None and self.slurm_job_id == owner.slurm_job_id


def leave(files: WorkflowFiles, request: CancelRequest) -> None:
    """Put the request there, whole, in place of an older one.

    Raises:
        OSError: the directory cannot be written.
    """
    temporary = f"{files.cancel_request}.{os.urandom(4).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(dumps(asdict(request)))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, files.cancel_request)
    except BaseException:
        os.unlink(temporary)
        raise


def find(files: WorkflowFiles, owner: Owner, earlier: Container[str] = ()) -> CancelRequest | None:
    """The request that is there for ``owner``; None where there is none.

    Whoever finds it passes it on first and removes it then: killed in between, it is found again, and a second cancel
    changes nothing.

    Args:
        earlier: see :meth:`CancelRequest.is_for`.

    Raises:
        OSError: the directory cannot be read.
    """
    request = _read(files.cancel_request)
    return request if request is not None and request.is_for(owner, earlier) else None


def remove(files: WorkflowFiles) -> None:
    """It was passed on."""
    try:
        os.unlink(files.cancel_request)
    except OSError:
        return  # removed by somebody, or not removable


def _read(path: str) -> CancelRequest | None:
    try:
        # Neither a symbolic link, nor a FIFO that would hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            return None
        data = loads(os.read(descriptor, LARGEST))
        known = {name: data[name] for name in CancelRequest.__struct_fields__ if name in data}
        return CancelRequest(**{**known, "allocations": tuple(known.get("allocations") or ())})
    except (NotJsonError, TypeError, AttributeError):
        return None
    finally:
        os.close(descriptor)
