"""A simulated world for Supervision: fake processes, a clock that is a number, and rules that are always checked.

Nothing here sleeps or starts a process.  A World performs the orders of a Supervision as loop.py would, turn by turn,
and asserts at every step what must hold whatever happens; see :meth:`World._signaled` and :meth:`World.check_books`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

from msgspec.structs import replace

from torc_supervise.exitstatus import Exit, Exited, Signaled, Usage
from torc_supervise.machine import actions as a
from torc_supervise.machine import deadlines
from torc_supervise.machine import phases as p
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.errands import Answer, Errand
from torc_supervise.machine.events import Verified
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.machine.supervision import Do, NewEnd, Order, Say, Start, Supervision, Write
from torc_supervise.scheduler import Capacity, Scheduler
from torc_supervise.store import journal
from torc_supervise.store.records import encode
from torc_supervise.workflow.model import ExecutionConfig, Job, Requirements, Workflow

SOME_USAGE = Usage(1 << 20, 0.5, 0.25)
ALL_THERE = Verified()
EAGAIN, ENOENT = 11, 2


def job(job_id: int, name: str | None = None, **fields: Any) -> Job:
    """A job that supports termination, unless told otherwise."""
    fields.setdefault("supports_termination", True)
    return Job(job_id, name or f"j{job_id}", "true", **fields)


def workflow(*jobs: Job, **fields: Any) -> Workflow:
    return Workflow("test", tuple(jobs), **fields)


def state_of(*jobs: Job, **fields: Any) -> WorkflowState:
    """A new workflow's state, its first record applied."""
    made = workflow(*jobs, **fields)
    return journal.new_state(r.WorkflowCreated(r.SCHEMA_VERSION, 1, made.to_dict()), "t0")


@dataclass(frozen=True)
class Program:
    """What a job's processes do.

    ``seconds`` until the leader exits with ``code`` by itself; NEVER for one that has to be told.  On the termination
    signal: ``dies`` of it, ``saves`` for that many seconds and then exits with ``saved_code``, or ``ignores`` it.
    ``children`` are further members of its group, each with the seconds that it lives; they ignore the signal where
    ``children_ignore``, otherwise they save for ``children_save`` seconds.
    """

    seconds: float = 10.0
    code: int = 0
    ignores: bool = False
    saves: float | None = None
    saved_code: int = 0
    children: tuple[float, ...] = ()
    children_ignore: bool = False
    children_save: float = 0.0
    dies_after_kill: float = 0.0  # NEVER: uninterruptible sleep
    starts: tuple[str, ...] = ()  # what the first spawns come to: "refused", "failed"; then "ok"
    verify_after: float = 0.0
    verified: Verified = ALL_THERE


@dataclass
class Process:
    program: Program
    leader: bool
    ends_at: float
    exit: Exit
    stopped: bool = False
    pending: int | None = None
    killed: bool = False

    def deliver(self, signum: int, now: float) -> None:
        if self.ends_at <= now or self.killed:
            return
        if signum == SIGKILL:
            self.killed = True
            if now + self.program.dies_after_kill < self.ends_at:
                self.ends_at, self.exit = now + self.program.dies_after_kill, Signaled(SIGKILL)
        elif signum == SIGSTOP:
            self.stopped, self.ends_at = True, NEVER
        elif signum == SIGCONT:
            if self.stopped:
                self.stopped, self.ends_at = False, now + self.program.seconds
            if self.pending is not None:
                signum, self.pending = self.pending, None
                self._act(signum, now)
        elif self.stopped:
            self.pending = signum
        else:
            self._act(signum, now)

    def _act(self, signum: int, now: float) -> None:
        if self.program.ignores if self.leader else self.program.children_ignore:
            return
        saves = self.program.saves if self.leader else self.program.children_save
        exit_: Exit = Signaled(signum) if saves is None else Exited(self.program.saved_code)
        if now + (saves or 0.0) < self.ends_at:
            self.ends_at, self.exit = now + (saves or 0.0), exit_


@dataclass
class Group:
    job_id: int
    started: float
    processes: list[Process]
    signals: list[tuple[float, int]] = field(default_factory=list)
    reported_exit: Exit | None = None
    reported_members: int = -1
    reaped: bool = False
    asked_at: float | None = None  # the first signal that a result may stem from

    def members(self, now: float) -> int:
        """Living members besides the leader."""
        return sum(process.ends_at > now for process in self.processes[1:])

    def count(self, signum: int) -> int:
        return sum(number == signum for _, number in self.signals)


class World:
    """One run.  Times start at ``start`` (not 0, so that a mixed-up clock shows)."""

    def __init__(
        self,
        *jobs: Job,
        programs: Mapping[int, Program] | None = None,
        end: float | None = None,
        capacity: Capacity | None = None,
        state: WorkflowState | None = None,
        start: float = 1000.0,
        lines: list[bytes] | None = None,
        errands: Sequence[Errand] = (),
        **fields: Any,
    ) -> None:
        self.start = self.now = start
        self.programs = dict(programs or {})
        self.state = state if state is not None else state_of(*jobs, **fields)
        self.capacity = capacity or Capacity(64, 1 << 40, 8)
        execution = self.state.workflow.execution
        graces = [
            deadlines.grace_of(j, execution)[0] for j in self.state.workflow.jobs if j.supports_termination
        ]
        self.wall = deadlines.fit(
            start,
            NEVER if end is None else start + end,
            execution.sigkill_headroom_seconds,
            max(graces, default=0.0),
        )
        self.walls = [(start, self.wall)]  # since when each of them is reckoned with
        self.scheduler = Scheduler(self.capacity, self.state.workflow.jobs_sort_method)
        self.supervision = Supervision(self.state, self.scheduler, self.wall, errands)
        self.groups: dict[int, Group] = {}
        self.by_job: dict[int, list[int]] = {}
        self.records: list[tuple[float, r.Record]] = []
        self.said: list[str] = []
        self.chores: list[tuple[float, Do]] = []
        self.starts: list[tuple[float, int]] = []
        self.answers: list[tuple[float, int, Verified]] = []
        self.spawn_tries: dict[int, int] = {}
        self.turns = 0
        self.hurried = False
        self.over_limit: set[int] = set()
        first = r.WorkflowCreated(r.SCHEMA_VERSION, 1, self.state.workflow.to_dict())
        self.lines = lines if lines is not None else [encode(1, "t0", 0.0, first)]
        self._next_pgid = 100
        self._at()
        self.supervision.begin(
            r.RunStarted(
                self.state.run_id, "host", 42, memory_bytes=1, end_time=None if end is None else "later"
            )
        )
        self.settle()

    # -- what a test does -----------------------------------------------------------------------------------

    def answer_chore(self, chore_id: int, answer: Answer) -> None:
        """What a chore came to arrives now."""
        self._at()
        self.supervision.on_chore_done(chore_id, answer)
        self.settle()

    def move_end(self, end: float | None) -> None:
        """The allocation ends ``end`` seconds after the start; None: it has no end any more."""
        self._at()
        execution = self.state.workflow.execution
        wall = deadlines.refit(
            self.start,
            self.now,
            self.supervision.wall,
            NEVER if end is None else self.start + end,
            execution.sigkill_headroom_seconds,
            deadlines.longest_grace(self.state.workflow),
        )
        before = dict(self.supervision._phases)
        self._call(self.supervision.move_end, wall)
        for job_id, phase in before.items():
            if isinstance(phase, p.Terminating | p.Lingering):
                after = self.supervision._phases[job_id]
                assert isinstance(after, type(phase))
                assert after.kill_at <= phase.kill_at, "P6: a grace that had begun was lengthened"
        self.turn()

    def turn(self, signals: Iterable[int] = (), *, sweep: bool = True) -> None:
        """One turn of the loop at the present moment, in loop.py's order.

        Args:
            sweep: False for a turn in which the news of exits has not come yet.
        """
        self.turns += 1
        self._at()
        if sweep:
            self._sweep()
        for signum in signals:
            if signum == SIGINT and any(
                isinstance(record, r.SignalReceived) and record.signal == "SIGINT"
                for _, record in self.records
            ):
                self.hurried = True
            self._call(self.supervision.on_signal, signum)
        for at, job_id, verified in [x for x in self.answers if x[0] <= self.now]:
            self.answers.remove((at, job_id, verified))
            self._call(self.supervision.on_verified, job_id, verified)
        self._call(self.supervision.tick)
        self.settle()

    def signal(self, signum: int) -> None:
        self.turn([signum])

    def cancel(self) -> None:
        self._at()
        self._call(self.supervision.on_cancel)
        self.turn()

    def sample(self, job_id: int, memory: int, *, at_limit: bool) -> None:
        self._at()
        if at_limit:
            self.over_limit.add(job_id)
        self._call(self.supervision.on_sample, job_id, memory, 50.0, at_limit)
        self.turn()

    def outside(self, job_id: int, signum: int) -> None:
        """Somebody else signals a job: SIGSTOP, say."""
        for pgid in self.by_job.get(job_id, ()):
            for process in self.groups[pgid].processes:
                process.deliver(signum, self.now)

    def next_moment(self) -> float:
        """When something happens next, in the world or by a deadline."""
        if any(map(self._has_news, self.groups.values())) or self.supervision.next_deadline <= self.now:
            return self.now
        moments = [p.ends_at for g in self.groups.values() if not g.reaped for p in g.processes]
        moments += [at for at, _, _ in self.answers]
        moments.append(self.supervision.next_deadline)
        return min((at for at in moments if at > self.now), default=NEVER)

    def _has_news(self, group: Group) -> bool:
        if group.reaped or group.processes[0].ends_at > self.now:
            return False
        return group.reported_exit is None or group.reported_members != group.members(self.now)

    def until(self, at: float) -> World:
        """Let time pass until ``at`` seconds after the start, stopping wherever something happens."""
        limit = self.start + at
        while (moment := self.next_moment()) <= limit and not self.supervision.done:
            self.now = moment
            self.turn()
        self.now = max(self.now, limit)
        self.turn()
        return self

    def jump(self, seconds: float) -> None:
        """The supervisor was held up: time passed and nothing was noticed."""
        self.now += seconds

    def finish(self, within: float = 1e9) -> World:
        """Until it is done.  P12: it must be, within that many seconds."""
        limit = self.now + within
        self.turn()
        while not self.supervision.done:
            moment = self.next_moment()
            assert moment < NEVER, f"waits for ever: {self.supervision._phases}"
            assert moment <= limit, f"not done after {within} s: {self.supervision._phases}"
            assert self.turns < 100_000, "turns without end"
            self.now = moment
            self.turn()
        return self

    # -- what a test looks at -------------------------------------------------------------------------------

    def of(self, kind: type[Any]) -> list[Any]:
        """All records of a kind."""
        return [record for _, record in self.records if isinstance(record, kind)]

    def signals(self, job_id: int) -> list[tuple[float, str]]:
        """Signals that we sent to the job's groups: (seconds since the start, name)."""
        sent = [s for pgid in self.by_job.get(job_id, ()) for s in self.groups[pgid].signals]
        return [(round(at - self.start, 6), Signals(abs(signum)).name) for at, signum in sent]

    def result(self, job_id: int) -> r.JobEnded:
        """Its one result."""
        (record,) = [x for x in self.of(r.JobEnded) if x.job_id == job_id]
        assert isinstance(record, r.JobEnded)
        return record

    def status(self, job_id: int) -> Status:
        return self.state.status[job_id]

    # -- the kernel's side ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Obey, start what can be started, and obey again, until nothing is ordered any more."""
        self._obey()
        while self._call(self.supervision.start_next):
            self._obey()
        self._obey()

    def _at(self) -> None:
        self.supervision.at(self.now, f"t{self.now:.6f}")

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        answer = method(*arguments)
        self.supervision.check()
        return answer

    def _sweep(self) -> None:
        for pgid, group in list(self.groups.items()):
            if group.reaped:
                continue
            leader, members = group.processes[0], group.members(self.now)
            if leader.ends_at <= self.now and group.reported_exit is None:
                group.reported_exit, group.reported_members = leader.exit, members
                self._call(self.supervision.on_leader_exited, pgid, leader.exit, members)
            elif group.reported_exit is not None and self.supervision.is_draining(pgid):
                group.reported_members = members
                self._call(self.supervision.on_group_changed, pgid, members)

    def _obey(self) -> None:
        while orders := self.supervision.take_orders():
            for order in orders:
                match order:
                    case Write(record=record, t=t, mono=mono):
                        self.records.append((self.now, record))
                        self.lines.append(encode(len(self.lines) + 1, t, mono, record))
                    case Say(text=text):
                        self.said.append(text)
                    case Do():
                        self.chores.append((self.now, order))
                    case NewEnd(wall=wall):
                        self.walls.append((self.now, wall))
                    case Start():
                        self._start(order)
                    case Order(job_id=job_id, action=action):
                        self._perform(job_id, action)

    def _perform(self, job_id: int, action: a.Action) -> None:
        match action:
            case a.SignalGroup(pgid=pgid, signum=signum):
                self._signaled(job_id, pgid, signum, self.groups[pgid].processes)
            case a.SignalLeader(pid=pid, signum=signum):
                self._signaled(job_id, pid, signum, self.groups[pid].processes[:1])
            case a.Reap(pid=pid):
                group = self.groups[pid]
                assert not group.reaped, "reaped twice"
                assert group.reported_exit is not None, "reaped a leader that nobody saw dead"
                assert group.members(self.now) == 0, "P3: reaped while the group had members"
                group.reaped = True
                self._call(self.supervision.on_reaped, job_id, SOME_USAGE)
            case a.Verify():
                program = self.programs.get(job_id, Program())
                if program.verify_after < NEVER:
                    self.answers.append((self.now + program.verify_after, job_id, program.verified))
                if program.verify_after == 0.0:
                    self.answers.pop()
                    self._call(self.supervision.on_verified, job_id, program.verified)

    def _start(self, order: Start) -> None:
        job_id = order.job.job_id
        assert not self.of(r.TerminationStarted), "P7: started after termination was asked for"
        self._check_dependencies(order.job)
        self._check_resources(order.job)
        program = self.programs.get(job_id, Program())
        tried = self.spawn_tries.get(job_id, 0)
        self.spawn_tries[job_id] = tried + 1
        self.starts.append((self.now, job_id))
        match program.starts[tried] if tried < len(program.starts) else "ok":
            case "refused":
                self._call(self.supervision.on_spawn_refused, job_id, EAGAIN)
            case "failed":
                self._call(self.supervision.on_spawn_failed, job_id, ENOENT, "bash: no such file")
            case _:
                pgid, self._next_pgid = self._next_pgid, self._next_pgid + 1
                leader = Process(program, True, self.now + program.seconds, Exited(program.code))
                children = [Process(program, False, self.now + s, Exited(0)) for s in program.children]
                self.groups[pgid] = Group(job_id, self.now, [leader, *children])
                self.by_job.setdefault(job_id, []).append(pgid)
                self._call(self.supervision.on_spawned, job_id, pgid)

    # -- what must hold always ------------------------------------------------------------------------------

    def _signaled(self, job_id: int, pgid: int, signum: int, targets: list[Process]) -> None:
        group, job_ = self.groups[pgid], self.state.job(job_id)
        assert not group.reaped, "P3: a signal to a group that was reaped"
        group.signals.append((self.now, signum))
        policy = self.supervision._limits.policy(job_)
        if signum == SIGKILL:
            assert group.count(SIGKILL) == 1, "P6: SIGKILL twice"
            self._check_kill(job_, group)
        elif signum == policy.termination_signal:
            assert group.count(signum) == 1, "P6: termination signal twice"
            assert group.count(SIGKILL) == 0, "P6: backwards"
        else:
            assert signum == SIGCONT
            assert group.signals[-2][1] == policy.termination_signal, "P14: SIGCONT follows the signal"
        if group.asked_at is None and group.reported_exit is None:
            group.asked_at = self.now
        for process in targets:
            process.deliver(signum, self.now)

    def _check_kill(self, job_: Job, group: Group) -> None:
        """SIGKILL may not come before the rules of DESIGN section 4 allow it."""
        asked = [at for at, signum in group.signals[:-1] if signum != SIGCONT]
        since = asked[0] if asked else self.now
        newer = [at for at, _ in self.walls[1:]] + [NEVER]
        walls = [wall for (_, wall), until in zip(self.walls, newer, strict=True) if until >= since]
        walls = [wall for wall in walls if wall.known]
        near_the_end = any(self.now >= wall.kill_at - 1e-6 for wall in walls)
        if self.hurried or near_the_end or job_.termination_signal == "SIGKILL":
            return
        if not asked:
            may = not job_.supports_termination or job_.job_id in self.over_limit
            assert may, "killed without having been asked"
            return
        grace, _ = deadlines.grace_of(job_, self.state.workflow.execution)
        grace *= min((wall.grace_scale for wall in walls), default=1.0)
        allowed = min(grace, 5.0) if group.reported_exit is not None else grace
        for wall in walls:
            allowed = min(allowed, (wall.end - asked[0]) / 2)
        runs_out = group.reported_exit is not None and job_.requirements.runtime_seconds is not None
        assert runs_out or self.now - asked[0] >= allowed - 1e-6, (
            f"killed {self.now - asked[0]} s after the signal"
        )

    def _check_dependencies(self, job_: Job) -> None:
        for dependency in job_.depends_on:
            status = self.state.status[dependency]
            assert status is Status.COMPLETED or (
                not job_.cancel_on_blocking_job_failure and status in (Status.FAILED, Status.CANCELED)
            ), f"{job_.name} started although {dependency} is {status}"

    def _check_resources(self, job_: Job) -> None:
        using = [job_]
        for group in self.groups.values():
            if group.processes[0].ends_at > self.now or group.members(self.now):
                if group.count(SIGKILL) and self.now - group.signals[-1][0] >= 10.0:
                    continue  # abandoned
                using.append(self.state.job(group.job_id))
        needs = [x.requirements for x in using]
        if self.capacity.max_parallel_jobs is not None:
            assert len(needs) <= self.capacity.max_parallel_jobs, "too many at once"
            return
        assert sum(n.num_cpus for n in needs) <= self.capacity.num_cpus, "CPUs oversubscribed"
        assert sum(n.memory_bytes for n in needs) <= self.capacity.memory_bytes, "memory oversubscribed"
        assert sum(n.num_gpus for n in needs) <= self.capacity.num_gpus, "GPUs oversubscribed"

    def check_books(self) -> None:
        """What must hold at the end of a run."""
        started = [(x.job_id, x.attempt_id, x.run_id) for x in self.of(r.JobStarted)]
        ended = [(x.job_id, x.attempt_id, x.run_id) for x in self.of(r.JobEnded)]
        assert sorted(started) == sorted(ended), "P9: exactly one result for every attempt that started"
        assert len(set(ended)) == len(ended)
        assert not self.state.live
        for record in self.of(r.JobEnded):
            if record.status == "completed":
                assert record.return_code == 0
                group = self.groups[self.by_job[record.job_id][-1]]
                assert group.processes[0].exit == Exited(0)
                assert group.asked_at is None, "a job that was signalled while it ran is never completed"
        for group in self.groups.values():
            assert group.reaped or any(p.ends_at > self.now for p in group.processes), "a zombie stays"

    def replayed(self, directory: Path) -> WorkflowState:
        """The state that a reader of the journal comes to."""
        path = directory / "events.jsonl"
        path.write_bytes(b"".join(self.lines))
        return journal.replay(str(path))[0]

    def resume(self, programs: Mapping[int, Program] | None = None) -> World:
        """The next run of the same workflow, in a new allocation, after a reinitialize."""
        record = r.Reinitialized(self.state.run_id + 1, {})
        self.state.apply("t", self.now, record)
        self.lines.append(encode(len(self.lines) + 1, "t", self.now, record))
        self.state.check()
        return World(
            programs=programs,
            state=self.state,
            capacity=self.capacity,
            start=self.now + 1000.0,
            lines=self.lines,
        )


__all__ = [
    "NEVER",
    "SIGTERM",
    "Capacity",
    "ExecutionConfig",
    "Program",
    "Requirements",
    "Verified",
    "WallTime",
    "World",
    "job",
    "replace",
    "state_of",
    "workflow",
]
