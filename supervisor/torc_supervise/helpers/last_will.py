"""The last will: the parent was killed, and the keeper ends its jobs under the same termination rules (P10).

The keeper is not the jobs' parent, so it cannot see how they end: return codes are unknown and said to be.  Members of
a group, and what has left it, are found in /proc (``kin``) and watched by pidfd, so that nothing is polled.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from signal import SIGCONT, SIGKILL, Signals
from typing import Protocol

from torc_supervise.helpers import hunt, strays
from torc_supervise.helpers.kin import Kin
from torc_supervise.machine import deadlines, orders
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.limits import execution_of_steps
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.machine.orders import jobs_text
from torc_supervise.machine.phases import Policy
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Ended, Status, StopReason
from torc_supervise.machine.step import LEFTOVER_GRACE, UNKILLABLE_AFTER
from torc_supervise.posix import clock
from torc_supervise.posix.cgroups import RunCgroup
from torc_supervise.posix.groups import signal_exactly, signal_group, signal_process
from torc_supervise.posix.lineage import UNREADABLE_AFTER, Key
from torc_supervise.posix.procfs import ProcessStat
from torc_supervise.posix.spawn import MACHINE_FULL
from torc_supervise.posix.steps import signal_step
from torc_supervise.workflow.model import ExecutionConfig, Job

WHY = "supervisor_died"
LOOK_AGAIN_AFTER = 0.2  # seconds, where not every process can be watched

Members = dict[int, list[ProcessStat]]  # job -> its living processes


class Write(Protocol):
    """Records what happens, or happened ``at`` that moment: monotonic seconds.

    Race: whoever records is held up.  A moment stays what it is then, and an age does not: of a job that seems to be
    younger than its processes they would be a stranger's (``kin.SLACK``), and it would be killed unasked.
    Test: test_strays.py::test_p9_an_attempt_is_asked_however_late_its_record_is.
    """

    def __call__(self, record: r.Record, at: float | None = None, /) -> object: ...


class LastWill:
    """Ends every live attempt of a state; ``write`` records, ``say`` tells whoever watches."""

    def __init__(
        self,
        state: WorkflowState,
        wall: WallTime,
        write: Write,
        say: Callable[[str], None],
        *,
        earlier: Sequence[tuple[float, WallTime]] = (),
        look: bool = True,
        output: str | None = None,
    ) -> None:
        self._state, self._wall, self._write, self._say = state, wall, write, say
        self._earlier = earlier  # what the end was before, each until a moment
        self._look = (
            look  # False: the jobs ran on another host or before a reboot, nothing of them can be here
        )
        self._output = output  # the output directory; None not to look for what is not on the books
        started = state.supervisor.record if state.supervisor is not None else None
        is_steps = started is not None and started.mode == "slurm"
        self._signal_group = signal_step if is_steps else signal_group
        self._execution = state.workflow.execution
        if is_steps:
            self._execution = execution_of_steps(self._execution)
        # What the leaders of job steps have started is their own business: it runs on other nodes.
        nonce = started.nonce if started is not None else None
        self._nonce = None if is_steps else nonce
        directory = started.cgroup if started is not None and look else None
        self._cgroup = RunCgroup(directory, "") if directory is not None else None
        self._kin = Kin(nonce, clock.boot_offset(), self._cgroup, groups_only=is_steps)
        self._asked: dict[int, int] = {}  # job -> the last signal that all of its processes are to get
        self._told: set[int] = set()  # jobs that were asked, or are not to be
        self._unseen: set[int] = set()  # jobs of which nothing was ever there
        self._warned: set[int] = set()  # jobs that only have processes outside of their group
        self._sent: set[tuple[Key, int]] = set()  # to processes outside of the groups

    def execute(self) -> None:
        """Signal, wait, kill, record.  Bounded: by the grace, then by UNKILLABLE_AFTER."""
        attempts = dict(self._state.live)
        known = self._begin(attempts)
        if attempts:
            self._say(f"the supervisor is gone: ending its {jobs_text(len(attempts))}")
        kill_at = self._ask_all(attempts, known)
        # Jobs that were started in the very moment of the parent's death.
        patience = min([*kill_at.values(), time.monotonic() + UNREADABLE_AFTER]) - time.monotonic()
        if adopted := self._adopt(max(0.0, patience)):
            more = self._begin(adopted)
            kill_at |= self._ask_all(adopted, more)
            attempts, known = attempts | adopted, known | more
        # What left the group of a job stays with it.
        unrecorded = self._hunt(spared=attempts)
        killed: set[int] = set()
        while attempts:
            members, sure = self._members(attempts)
            if members is not None:
                known = members
                kill_at |= self._ask_late(attempts, known)
                self._pass_on(attempts, known)
            for job_id in [j for j in attempts if sure and not known[j]]:
                ended = Ended.KILLED if job_id in killed else Ended.IN_GRACE
                self._record(attempts.pop(job_id), Ended.LOST if job_id in self._unseen else ended)
            now = time.monotonic()
            for job_id in [j for j in attempts if now >= kill_at[j]]:
                if job_id in killed:
                    self._record(attempts.pop(job_id), Ended.UNKILLABLE)
                    continue
                self._to_group(attempts[job_id], SIGKILL, known)
                self._asked[job_id] = SIGKILL
                if self._cgroup is not None and (name := attempts[job_id].started.cgroup) is not None:
                    self._cgroup.job(name).kill()
                killed.add(job_id)
                kill_at[job_id] = now + UNKILLABLE_AFTER
            self._pass_on(attempts, known)
            if attempts:
                seconds = min(kill_at[j] for j in attempts) - now
                if not sure:
                    _wait_for_any([], min(seconds, LOOK_AGAIN_AFTER))
                else:
                    _wait_for_any([about.pid for job_id in attempts for about in known[job_id]], seconds)
        state = self._state
        hunts = (unrecorded, self._hunt(spared=()))
        found = len(frozenset().union(*(each.finish() for each in hunts if each is not None)))
        if found:
            noun = "process" if found == 1 else "processes"
            message = f"{found} {noun} of the run were in no job's group and were killed"
            self._write(r.Warned(state.run_id, "escaped", message))
            self._say(f"warning: {message}")
        if self._cgroup is not None:
            self._cgroup.remove()
        if state.run_is_open:
            self._write(r.RunEnded(state.run_id, state.outcome().value))

    def _ask_all(self, attempts: Mapping[int, LiveAttempt], known: Members) -> dict[int, float]:
        """Send the first signals, where none was sent; returns when SIGKILL is due.

        Of a job of which nothing is known yet, because that could not be told, nobody is asked: see :meth:`_ask_late`.
        """
        now, kill_at = time.monotonic(), {}
        for job_id, live in attempts.items():
            job = self._state.job(job_id)
            is_to_be_asked = live.asked_at is None and job.supports_termination
            if is_to_be_asked and known[job_id]:
                self._ask(job, live, known)
            if known[job_id] or not is_to_be_asked:
                self._told.add(job_id)
            walls = walls_since(live.asked_at, self._wall, self._earlier)
            kill_at[job_id] = min(kill_due(job, live, self._execution, wall, now) for wall in walls)
        self._pass_on(attempts, known)
        return kill_at

    def _ask_late(self, attempts: Mapping[int, LiveAttempt], known: Members) -> dict[int, float]:
        """Those that are found only now have their grace from now on; returns when SIGKILL is due for them.

        Race: at the first look a process of the job was calling exec, and whose it is could not be told.
        Test: test_last_will.py::test_p10_a_job_that_is_found_at_the_second_look_is_asked.
        """
        late = {j: live for j, live in attempts.items() if j not in self._told and known[j]}
        return self._ask_all(late, known) if late else {}

    def _adopt(self, patience: float) -> dict[int, LiveAttempt]:
        """Attempts that began and are not on record: they get a record, their grace and a result like others (P9).

        Race: the parent was killed between a spawn and telling its keeper, or both were before the record was durable.
        Test: test_strays.py::test_p9_an_attempt_that_nobody_was_told_of_is_recorded_and_gets_its_grace.
        """
        if self._nonce is None or self._output is None or not self._look:
            return {}
        state = self._state
        try:
            found = strays.find(self._nonce, state, patience)
        except OSError as error:  # too full to tell: the hunt ends them when it can be told
            if error.errno in MACHINE_FULL:
                return {}
            raise
        for stray in found:
            cgroup = self._cgroup.name_of(stray.pid) if self._cgroup is not None else None
            started = r.JobStarted(
                state.run_id, stray.job_id, stray.attempt_id, stray.group, stray.group, cgroup=cgroup
            )
            self._write(started, min(stray.began, time.monotonic()))
        if found:
            self._say(f"{jobs_text(len(found))} had begun without a record")
        return {stray.job_id: state.live[stray.job_id] for stray in found}

    def _hunt(self, spared: Iterable[int]) -> hunt.Hunt | None:
        """Begin to end all processes of this run but those of the spared jobs."""
        if self._output is None or not self._look:
            return None
        state = self._state
        ours = hunt.marks_of(self._output, state.workflow_id, state.run_id, self._nonce)
        return hunt.Hunt(ours, [hunt.job_mark(job_id) for job_id in spared], UNKILLABLE_AFTER)

    def _begin(self, attempts: dict[int, LiveAttempt]) -> Members:
        """What is there of the attempts.  Those of which nothing is are over, and recorded: nobody saw how they ended.

        Where that cannot be told for sure the others do not wait for it.
        Test: test_last_will.py::test_p10_a_job_is_asked_while_it_cannot_be_told_whose_another_process_is.

        Raises:
            OSError: the machine is too full to tell, for long.  Signals might hit strangers then.
        """
        until = time.monotonic() + UNKILLABLE_AFTER
        while (found := self._members(attempts))[0] is None:
            if time.monotonic() >= until:
                raise OSError(errno.ENFILE, "nobody can tell which jobs are still there")
            _wait_for_any([], LOOK_AGAIN_AFTER)
        members, sure = found
        assert members is not None
        self._unseen |= {job_id for job_id in attempts if not members[job_id]}
        for job_id in sorted(self._unseen & attempts.keys()) if sure else ():
            self._record(attempts.pop(job_id), Ended.LOST)
        return members

    def _ask(self, job: Job, live: LiveAttempt, known: Members) -> None:
        """Send the first signal.  A leader that is gone passes nothing on: then it is for all."""
        signum = Signals[job.termination_signal or self._execution.termination_signal].value
        leads = any(about.pid == live.started.pid for about in known[job.job_id])
        if job.signal_scope == "leader" and leads:
            signal_process(live.started.pid, signum)
        else:
            self._to_group(live, signum, known)
            self._asked[job.job_id] = signum
        self._to_group(live, SIGCONT, known)

    def _to_group(self, live: LiveAttempt, signum: int, known: Members) -> None:
        """Not where only processes outside of the group are left: its number may be another's by now."""
        pgid = live.started.pgid
        if any(about.pgid == pgid for about in known[live.started.job_id]):
            self._signal_group(pgid, signum)

    def _pass_on(self, attempts: Mapping[int, LiveAttempt], members: Members) -> None:
        """What has left its job's group gets what the group got, once each, whenever it is found."""
        for job_id, live in attempts.items():
            outside = [about for about in members.get(job_id, ()) if about.pgid != live.started.pgid]
            if outside and len(outside) == len(members[job_id]) and job_id not in self._warned:
                self._warned.add(job_id)
                message = orders.escaped_text(self._state.job(job_id), len(outside))
                self._write(r.Warned(self._state.run_id, "escaped", message, job_id))
                self._say(f"warning: {message}")
            signum = self._asked.get(job_id)
            if signum is None:
                continue
            for about in outside:
                what = ((about.pid, about.start_ticks), signum)
                if what not in self._sent and signal_exactly(about, signum):
                    self._sent.add(what)
                    if signum != SIGKILL:
                        signal_exactly(about, SIGCONT)

    def _members(self, attempts: dict[int, LiveAttempt]) -> tuple[Members | None, bool]:
        """See ``Kin.members``.

        Returns:
            None where nobody can tell, because the machine is too full (P11): nobody is gone then.
        """
        if not self._look:
            return {job_id: [] for job_id in attempts}, True
        try:
            members, sure = self._kin.members(attempts)
        except OSError as error:
            if error.errno in MACHINE_FULL:
                return None, False
            raise
        self._unseen -= {job_id for job_id in attempts if members[job_id]}
        return members, sure

    def _record(self, live: LiveAttempt, ended: Ended) -> None:
        started = live.started
        self._write(
            r.JobEnded(
                started.run_id,
                started.job_id,
                started.attempt_id,
                Status.TERMINATED.value,
                ended.value,
                why=WHY,
                start_time=live.start_time,
                exec_time_seconds=round(time.monotonic() - live.mono, 6),
                error="the supervisor was killed while it ran; its exit status is unknown",
            )
        )


def walls_since(
    asked_at: float | None, wall: WallTime, earlier: Sequence[tuple[float, WallTime]]
) -> list[WallTime]:
    """The ends that were reckoned with since a job was asked: none of them lengthens its grace (P6)."""
    if asked_at is None:
        return [wall]
    return [wall, *(before for until, before in earlier if asked_at <= until)]


def kill_due(job: Job, live: LiveAttempt, execution: ExecutionConfig, wall: WallTime, now: float) -> float:
    """When SIGKILL is due: a grace that the supervisor had begun goes on, and does not begin again (P6)."""
    if live.last_signal == SIGKILL.name:
        return now
    asked_at = now if live.asked_at is None else live.asked_at
    if live.asked_why == StopReason.LEFTOVER:
        return min(asked_at + LEFTOVER_GRACE, wall.kill_at)
    if not job.supports_termination:
        return now
    grace, stated = deadlines.grace_of(job, execution)
    signum = Signals[job.termination_signal or execution.termination_signal].value
    policy = deadlines.scaled(Policy(signum, grace=grace, grace_stated=stated), wall)
    if live.asked_why == StopReason.RUNTIME_LIMIT:
        return min(asked_at + policy.grace, wall.kill_at)
    return deadlines.kill_at(policy, asked_at, wall)


def _wait_for_any(pids: list[int], seconds: float) -> None:
    """Until one of the processes ends, the time is up, or it is time to look at the clock again."""
    poll = select.poll()
    descriptors = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            seconds = 0.0  # one has ended already
            break
        except OSError:  # no descriptors left, or a kernel without them
            seconds = min(seconds, LOOK_AGAIN_AFTER)
            break
        descriptors.append(descriptor)
        poll.register(descriptor, select.POLLIN)
    try:
        poll.poll(min(clock.LONGEST_WAIT, max(0.0, seconds)) * 1000)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
