"""Repair: a journal that something else has damaged is replaced by what can still be read of it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable

from msgspec import Struct

from torc_supervise.errors import JournalError, TorcError
from torc_supervise.machine.records import Warned
from torc_supervise.operations.opened import OpenWorkflow, take_lock
from torc_supervise.posix.directories import sync
from torc_supervise.store import journal, layout, salvage
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.salvage import Damage, Salvaged

SAID_IN_WARNING = 3  # damages that the warning in the journal names


class Repaired(Struct, frozen=True):
    """``copy``: path of the damaged file, None where nothing was wrong.  ``kept``: records that were readable."""

    workflow_id: int
    damages: tuple[Damage, ...]
    kept: int
    copy: str | None


def repair(output: str, workflow_id: int, say: Callable[[str], None]) -> Repaired:
    """Keep a copy of the damaged journal and everything in it that can be read.

    Raises:
        WorkflowNotFound, WorkflowBusy: there is no such workflow, or somebody alive owns it.
        JournalError: the first record is lost.
        TorcError: the directory cannot be written.
    """
    files = layout.find(output, workflow_id)
    lock = take_lock(files, "repair", say)
    try:
        found = salvage.salvage(files.journal)
        if not found.damages:
            return Repaired(workflow_id, (), found.kept, None)
        copy = _replace(files, found)
        state, seq = journal.replay(files.journal)
        opened = OpenWorkflow(files, state, lock, seq)
        opened.append(Warned(state.run_id, "journal_repaired", _summary(found, copy)))
        opened.write_snapshot()
        return Repaired(workflow_id, tuple(found.damages), found.kept, copy)
    except OSError as error:
        raise TorcError(f"cannot repair {files.journal}: {error.strerror}") from error
    finally:
        lock.give_back()  # what a dead owner has left is for the next command that opens the workflow


def _replace(files: WorkflowFiles, found: Salvaged) -> str:
    """Put the salvaged lines in the journal's place; returns the path of the copy of the damaged one.

    The journal's name leads to the old file or to the new one at every moment, also if this is interrupted.
    """
    new = f"{files.journal}.repaired-{os.getpid()}"
    try:
        salvage.write(new, found.lines)
        try:
            journal.replay(new)
        except JournalError as error:
            raise TorcError(
                f"{files.journal} cannot be repaired: what can be read of it makes no sense ({error.message})",
                "restore it from a copy, or run the workflow file again as a new workflow",
            ) from error
        copy = _keep_copy(files.journal)
        os.rename(new, files.journal)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise
    sync(files.directory)
    return copy


def _keep_copy(path: str) -> str:
    """Give the damaged file a second name; on file systems without links, a second file."""
    for number in itertools.count(1):
        copy = f"{path}.damaged-{number}"
        try:
            os.link(path, copy)
        except FileExistsError:
            continue
        except OSError:
            if os.path.exists(copy):
                continue
            shutil.copy2(path, copy)
        return copy
    raise AssertionError("there is always a next number")


def _summary(found: Salvaged, copy: str) -> str:
    places = [f"line {d.line} (byte {d.byte}): {d.what}" for d in found.damages[:SAID_IN_WARNING]]
    more = len(found.damages) - len(places)
    text = "; ".join(places) + (f"; and {more} more" if more else "")
    return f"the journal was damaged and was repaired; the damaged file is kept as {copy}. {text}"
