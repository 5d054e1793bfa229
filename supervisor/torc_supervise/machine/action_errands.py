"""The errand that takes a workflow's actions: commands through the keeper, further allocations through Slurm.

Commands run one action after the other, in the order in which they became due.  Jobs wait for those of
on_workflow_start and on_worker_start (a ``mkdir`` that they need), and for no others.  Once the run is ending, what
runs is asked to end as jobs are, what waits does not begin, and is due again in the next run; only the last ones,
on_worker_complete and on_workflow_complete, begin then, in what time is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from msgspec import Struct

from torc_supervise.machine import records as r
from torc_supervise.machine.errands import Answer, Desk, Errand
from torc_supervise.machine.next_allocation import NextAllocation
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.step import UNKILLABLE_AFTER
from torc_supervise.machine.triggers import Triggers, everything_settled
from torc_supervise.workflow.actions import Action

LAST_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL of commands that run at the end of a run."""

ANSWER_WITHIN = 5.0
"""Seconds beyond the last moment of commands after which a keeper that says nothing is not waited for (P12)."""

_JOBS_WAIT_FOR = ("on_workflow_start", "on_worker_start")
_LAST = ("on_workflow_complete", "on_worker_complete")


class CommandPlace(Struct, frozen=True):
    """Where commands run.  ``log`` is appended to; ``environment`` is added to the keeper's own."""

    directory: str
    log: str
    environment: Mapping[str, str] = {}
    open_files: int | None = None


class _Current(Struct):
    """The commands that run.  Deadlines in monotonic seconds; ``ask_at`` is when they are asked to end."""

    chore_id: int
    action: Action
    key: str
    began: float
    ask_at: float = NEVER
    kill_at: float = NEVER
    told: float = NEVER  # the kill_at that the keeper was told
    lost: bool = False  # their keeper died over them, and the next one ends what it left


class Actions(Errand):
    """All actions of one run.

    Args:
        place: where commands run.
        allocations: what queues further allocations; None outside of an allocation.
    """

    interests = (r.JobEnded,)

    def __init__(self, place: CommandPlace, allocations: NextAllocation | None = None) -> None:
        self._place = place
        self._allocations = allocations
        self._triggers: Triggers | None = None
        self._queue: deque[Action] = deque()
        self._current: _Current | None = None
        self._number = 0

    # -- what happens -----------------------------------------------------------------------------------------

    def on_begin(self, desk: Desk) -> None:
        self._triggers = Triggers(desk.state)
        self._take(desk, self._triggers.at_begin())

    def on_record(self, desk: Desk, record: r.Record) -> None:
        if self._triggers is not None and isinstance(record, r.JobEnded):
            self._take(desk, self._triggers.on_ended(record))

    def on_idle(self, desk: Desk) -> None:
        if self._triggers is not None:
            self._take(desk, self._triggers.at_end())

    def on_ending(self, desk: Desk) -> None:
        hurried = desk.ending is not None and desk.ending.hurried
        self._queue = deque(a for a in self._queue if a.trigger in _LAST and not hurried)
        self._limit(desk)
        self._update()

    def on_tick(self, desk: Desk) -> None:
        current = self._current
        if current is not None:
            self._limit(desk)
            if desk.now >= self._give_up_at(current):
                self._over(desk, current, {"ok": False, "message": "nothing was heard of its commands"})
            else:
                self._update()

    def on_chore_done(self, desk: Desk, chore_id: int, answer: Answer) -> None:
        current = self._current
        if current is None or current.chore_id != chore_id:
            return
        if answer.get("lost"):
            self._end_left(desk, current)
        else:
            self._over(desk, current, answer)

    # -- taking actions ---------------------------------------------------------------------------------------

    def _take(self, desk: Desk, due: list[Action]) -> None:
        for action in due:
            if action.kind == "schedule_nodes":
                self._schedule(desk, action)
            elif desk.ending is None or (action.trigger in _LAST and not desk.ending.hurried):
                self._queue.append(action)
        self._run_next(desk)

    def _run_next(self, desk: Desk) -> None:
        if self._current is None and self._queue:
            action = self._queue.popleft()
            self._number += 1
            key = f"{desk.state.workflow_id}.{desk.state.run_id}.{self._number}"
            noun = "command" if len(action.commands) == 1 else "commands"
            desk.say(f"{action.title}: running {len(action.commands)} {noun}")
            environment = {**self._place.environment, "TORC_TRIGGER": action.trigger}
            body: Answer = {
                "key": key,
                "commands": list(action.commands),
                "directory": self._place.directory,
                "log": self._place.log,
                "environment": environment,
                "open_files": self._place.open_files,
                "title": action.title,
            }
            chore_id = desk.do(self, "run_commands", body, once=True)
            self._current = _Current(chore_id, action, key, desk.now)
            self._limit(desk)
        self._update()

    def _over(self, desk: Desk, current: _Current, answer: Answer) -> None:
        self._current = None
        action, message = current.action, answer.get("message")
        if current.lost:
            what = message or "what was left of them was ended"
            message = f"the keeper died over its commands, nobody knows what they came to; {what}"
        if answer.get("ended"):  # by us: as with a job that was ended, the next run has another go
            desk.say(f"{action.title}: {message}; it is due again in the next run")
        else:
            ok = bool(answer.get("ok")) and not current.lost
            self._record(desk, action, ok, message)
            if not ok:
                desk.warn("action_failed", f"{action.title}: {message}")
        self._run_next(desk)

    def _end_left(self, desk: Desk, current: _Current) -> None:
        """Their keeper died, and they run on, with nobody to see what they come to: jobs must not start beside them."""
        grace = desk.state.workflow.execution.sigterm_lead_seconds
        current.lost, current.ask_at = True, desk.now
        current.kill_at = current.told = min(current.kill_at, desk.now + grace, desk.wall.kill_at)
        body: Answer = {
            "key": current.key,
            "environment": dict(self._place.environment),
            "grace": max(0.0, current.kill_at - desk.now),
        }
        desk.say(f"{current.action.title}: the keeper died over its commands; what is left of them is ended")
        current.chore_id = desk.do(self, "end_left_commands", body)
        self._update()

    def _schedule(self, desk: Desk, action: Action) -> None:
        """A further allocation.  Those of on_workflow_start are queued by ``submit``, before any run."""
        if action.trigger == "on_workflow_start":
            return
        if self._allocations is None or action.scheduler_type != "slurm":
            why = "this run is in no Slurm allocation, and runs everything itself"
            if action.scheduler_type != "slurm":
                why = f"there are no allocations of scheduler_type '{action.scheduler_type}' to ask for"
            self._record(desk, action, False, f"not taken: {why}")
            desk.say(f"{action.title} is not taken: {why}")
        elif everything_settled(desk.state):
            self._record(desk, action, False, "not taken: nothing is left to run")
        else:

            def told(desk: Desk, ok: bool, message: str) -> None:
                self._record(desk, action, ok, message)
                if not ok:
                    desk.warn("action_failed", f"{action.title}: {message}")

            self._allocations.ask(desk, action.scheduler, "action", told, action.max_parallel_jobs)

    def _record(self, desk: Desk, action: Action, ok: bool, message: str | None) -> None:
        desk.write(r.ActionTaken(desk.state.run_id, action.index, action.trigger, ok, message))

    # -- limits -----------------------------------------------------------------------------------------------

    def _limit(self, desk: Desk) -> None:
        """See to it that commands do not outlive the run; deadlines only ever come nearer (P6)."""
        current = self._current
        if current is None:
            return
        ask_at, kill_at = self._limits(desk, current)
        current.kill_at = min(current.kill_at, kill_at)
        current.ask_at = min(current.ask_at, ask_at, current.kill_at)
        if current.ask_at <= desk.now and current.kill_at < current.told:
            current.told = current.kill_at
            grace = max(0.0, current.kill_at - desk.now)
            desk.do(self, "end_commands", {"key": current.key, "grace": grace})

    @staticmethod
    def _limits(desk: Desk, current: _Current) -> tuple[float, float]:
        """When the commands are asked to end, and when they are killed."""
        ending, wall = desk.ending, desk.wall
        grace = desk.state.workflow.execution.sigterm_lead_seconds
        if ending is not None and ending.hurried:
            return desk.now, desk.now
        if current.action.trigger in _LAST and desk.nothing_runs:
            if wall.known:
                kill_at = wall.end - wall.headroom / 4
                return kill_at - min(LAST_GRACE, wall.headroom / 4), kill_at
            if ending is not None:
                ask_at = current.began + grace if ending.since <= current.began else desk.now
                return ask_at, ask_at + LAST_GRACE
        elif ending is not None:
            return desk.now, min(desk.now + grace, wall.kill_at)
        elif wall.known:  # as a job that is asked in time
            return wall.kill_at - grace * wall.grace_scale, wall.kill_at
        return NEVER, NEVER

    @staticmethod
    def _give_up_at(current: _Current) -> float:
        return current.told + UNKILLABLE_AFTER + ANSWER_WITHIN

    def _update(self) -> None:
        current = self._current
        self.busy = current is not None or bool(self._queue)
        running = [] if current is None else [current.action]
        self.holds_starts = any(a.trigger in _JOBS_WAIT_FOR for a in (*running, *self._queue))
        self.next_deadline = NEVER
        if current is not None:
            self.next_deadline = self._give_up_at(current) if current.told < NEVER else current.ask_at
