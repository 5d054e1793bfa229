"""Audit: what must hold when a day is over, of the journal as the next command reads it, and of what still lives."""

from __future__ import annotations

import signal
from collections import Counter
from typing import Any

from simulator.machine import Machine
from support.fingerprints import fingerprint
from torc_supervise.errors import JournalError
from torc_supervise.machine import records as r
from torc_supervise.machine.state import WorkflowState
from torc_supervise.store import journal
from torc_supervise.store.jsontext import loads
from torc_supervise.store.records import decode


def lines_on_disk(machine: Machine) -> list[bytes]:
    """Whole lines; the torn last one is dropped, as every reader does."""
    data = bytes(machine.disk.files[machine.journal].data)
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


def read_back(machine: Machine) -> tuple[WorkflowState, list[r.Record]]:
    """The state that the journal comes to, and its records."""
    records: list[r.Record] = []
    state: WorkflowState | None = None
    adopted = any(attempt.is_lost for attempt in machine.rules.attempts)
    for number, line in enumerate(lines_on_disk(machine), 1):
        try:
            seq, t, mono, record = decode(line)
        except JournalError as error:
            raise machine.rules.broken(f"P9: line {number} is garbled: {error.message}") from None
        if seq != number:
            raise machine.rules.broken(f"P9: record {seq} where {number} belongs")
        assert record is not None
        if isinstance(record, r.WorkflowCreated):
            state = journal.new_state(record, t)
        else:
            assert state is not None
            try:
                state.apply(t, mono, record)
                state.check(adopted=adopted)
            except (ValueError, LookupError, AssertionError) as error:
                raise machine.rules.broken(f"P9: line {number} does not fit: {error!r}: {line!r}") from None
        records.append(record)
    assert state is not None
    return state, records


def check_journal(machine: Machine) -> tuple[WorkflowState, list[r.Record]]:
    """Nobody of ours lives any more.  What was confirmed is there; nothing is there twice."""
    rules = machine.rules
    state, records = read_back(machine)
    if len(records) < rules.results.acknowledged:
        raise rules.broken(
            f"P9: {rules.results.acknowledged} records were confirmed, and {len(records)} are there"
        )
    started = Counter((x.run_id, x.job_id, x.attempt_id) for x in records if isinstance(x, r.JobStarted))
    ended = Counter((x.run_id, x.job_id, x.attempt_id) for x in records if isinstance(x, r.JobEnded))
    twice = [key for key, count in (started + Counter()).items() if count > 1]
    twice += [key for key, count in ended.items() if count > 1]
    if twice:
        raise rules.broken(f"P9: there twice: {twice}")
    if ended.keys() - started.keys():
        raise rules.broken(f"P9: results of what never started: {ended.keys() - started.keys()}")
    return state, records


def check_run_is_over(machine: Machine, state: WorkflowState, records: list[r.Record]) -> None:
    """Somebody has brought the run to its end: its supervisor, a last will, or the next command."""
    rules = machine.rules
    if state.live:
        raise rules.broken(f"P9: attempts without a result: {sorted(state.live)}")
    if state.run_is_open:
        raise rules.broken("P9: nobody has recorded the end of the run")
    started = {(x.run_id, x.job_id, x.attempt_id) for x in records if isinstance(x, r.JobStarted)}
    for attempt in rules.attempts:
        if not attempt.is_lost and (attempt.run_id, attempt.job_id, attempt.attempt_id) not in started:
            raise rules.broken(f"P9: nobody knows of attempt {attempt.attempt_id} of job {attempt.job_id}")
    for attempt in rules.attempts:
        left = set(rules.attempts.left_of(attempt)) - rules.attempts.untraceable
        if not attempt.is_out_of_sight and not all(process.uninterruptible for process in left):
            raise rules.broken(f"P5, P10: {len(left)} processes of job {attempt.job_id} live on")


def check_live_state(machine: Machine, live: WorkflowState, read: WorkflowState) -> None:
    """The supervisor has left, and everything was confirmed."""
    if fingerprint(live) != fingerprint(read):
        raise machine.rules.broken("the live state is not what its journal comes to")


def check_signals_heard(machine: Machine) -> None:
    """P1: of a supervisor that has ended by itself."""
    heard = {x.signal for x in machine.rules.results.records if isinstance(x, r.SignalReceived)}
    for signum in machine.rules.told:
        if signal.Signals(signum).name not in heard:
            raise machine.rules.broken(f"P1: nobody has heard of {signal.Signals(signum).name}")


def timeless(data: bytes) -> list[dict[str, Any]]:
    """The records of a journal without what the wall clock says."""
    by_the_wall_clock = ("t", "start_time", "end_time", "checkpoint_saved", "outputs_seen")
    records = [loads(line) for line in data.splitlines()]
    return [{k: v for k, v in record.items() if k not in by_the_wall_clock} for record in records]
