"""A day: one plan lived through on one simulated machine, and the morning after it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulator import audit
from simulator.fibers import NEVER, Broken
from simulator.machine import Machine
from simulator.plan import Plan
from simulator.programs import Player, Program
from simulator.seams import installed
from torc_supervise.capacity import Capacity
from torc_supervise.errors import JournalError, TorcError
from torc_supervise.exitstatus import Signaled
from torc_supervise.helpers import keeper
from torc_supervise.helpers.last_will import LastWill, Write
from torc_supervise.helpers.link import KeeperLink
from torc_supervise.loop import Loop
from torc_supervise.machine import deadlines
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.errands import Desk, Errand
from torc_supervise.machine.live import LiveAttempt
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import Status
from torc_supervise.operations import opened, run
from torc_supervise.operations.reinitialize import plan_reinitialize, reinitialize
from torc_supervise.operations.surroundings import Machine as Node
from torc_supervise.operations.surroundings import RunOptions
from torc_supervise.posix.wakeup import NUDGE
from torc_supervise.store import requests
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.lock import read_owner
from torc_supervise.store.records import encode
from torc_supervise.workflow.model import ExecutionConfig, Job, Requirements, Workflow

SUPERVISOR = 2
Patch = tuple[Any, Any, Any]
EVENING = 300.0  # seconds: who has not ended by then is asked to
AT_MOST = 5000.0  # seconds for everything (P12)
FILES = WorkflowFiles("/out", 1)


@dataclass(frozen=True)
class Report:
    """What a day came to.  ``failure``: the rule that was broken, None if none was."""

    failure: str | None
    events: int
    journal: bytes = b""
    printed: tuple[str, ...] = ()
    where: str = ""


def live(plan: Plan, patches: tuple[Patch, ...] = ()) -> Report:
    """Live through a day, and where the wall clock jumped on it through the same day without that (P13).

    Args:
        patches: deliberate bugs, as (owner, name, value).
    """
    report = _live(plan, patches)
    if report.failure is not None or all(kind != "clock_jumps" for _, kind, _ in plan.events):
        return report
    calm = replace(plan, events=tuple(event for event in plan.events if event[1] != "clock_jumps"))
    twin = _live(calm, patches)
    events = report.events + twin.events
    if twin.failure is None and audit.timeless(twin.journal) != audit.timeless(report.journal):
        return replace(
            report, failure="P13: a jump of the wall clock has changed more than times", events=events
        )
    return replace(report, failure=twin.failure, events=events)


def _live(plan: Plan, patches: tuple[Patch, ...]) -> Report:
    day = Day(plan)
    machine = day.machine
    with installed(machine, *day.observers(), *patches):
        try:
            day.live()
        except Broken as broken:
            machine.hub.fail(str(broken))
        failure, where = machine.hub.failure, machine.hub.where
        machine.stop()
    lines = tuple(data.decode(errors="replace").rstrip() for _, data in machine.printed)
    data = bytes(machine.disk.files[FILES.journal].data)
    return Report(failure, machine.hub.events, data, lines, where)


class Day:
    """Holds the machine and what was planned."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.machine = Machine(plan.seed)
        self.rules = self.machine.rules
        self.machine.journal = FILES.journal
        self.machine.disk.latency = plan.latency
        self.machine.kernel.spawn_errors += plan.refusals
        self.machine.fatal_keepers += plan.fatal_keepers
        jobs = tuple(_job(number, job.fields) for number, job in enumerate(plan.jobs, 1))
        execution = ExecutionConfig(sigterm_lead_seconds=plan.lead, sigkill_headroom_seconds=plan.headroom)
        self.workflow = Workflow("day", jobs, execution=execution)
        programs = {number: job.program for number, job in enumerate(plan.jobs, 1)}
        checkpoints = {job.job_id: job.checkpoint for job in jobs if job.checkpoint is not None}
        self.player = Player(self.machine, programs, checkpoints)
        self.quiet = False  # the morning: nothing happens any more
        self.ended_well = False
        self.loop: Loop | None = None
        self.moves = [event for event in plan.events if event[1] == "move_end"]

    # -- what is looked at ----------------------------------------------------------------------------------

    def observers(self) -> list[tuple[Any, str, Any]]:
        day, rules, hub = self, self.rules, self.machine.hub

        class ObservedLoop(Loop):
            def __init__(self, supervision: Any, *arguments: Any, signals_first: bool) -> None:
                super().__init__(supervision, *arguments, signals_first=day.plan.signals_first)
                rules.supervision = supervision
                rules.walls = [(hub.now, supervision.wall)]

            def run(self) -> None:
                rules.in_loop = True
                super().run()
                rules.in_loop = False

        class ObservedLink(KeeperLink):
            def write(self, t: str, mono: float, record: r.Record) -> None:
                rules.recorded(record)
                super().write(t, mono, record)

            def move_end(self, wall: WallTime) -> None:
                rules.walls.append((hub.now, wall))
                super().move_end(wall)

        class ObservedWill(LastWill):
            def __init__(
                self, state: WorkflowState, wall: WallTime, write: Write, *arguments: Any, **more: Any
            ) -> None:
                live: Mapping[int, LiveAttempt] = state.live
                rules.will_begins(live)

                def observed(record: r.Record, at: float | None = None) -> None:
                    rules.results.recorded_by_will(record)
                    write(record, at)

                super().__init__(state, wall, observed, *arguments, **more)

        return [
            (run, "Loop", ObservedLoop),
            (run, "KeeperLink", ObservedLink),
            (run, "errands", lambda node, options, now: [EndMover(day, now)]),
            (keeper, "LastWill", ObservedWill),
            (opened, "LastWill", ObservedWill),
        ]

    # -- the day --------------------------------------------------------------------------------------------

    def live(self) -> None:
        machine, hub = self.machine, self.machine.hub
        first = r.WorkflowCreated(r.SCHEMA_VERSION, 1, self.workflow.to_dict())
        inode = machine.disk.create(FILES.journal)
        inode.data += encode(1, "2030-01-01T00:00:00.000000Z", hub.now, first)
        inode.durable = bytes(inode.data)
        supervisor = machine.start("supervisor", SUPERVISOR, self.supervise)
        supervisor.fatal = self.plan.fatal
        for at, kind, argument in [*self.plan.events, (EVENING, "signal", signal.SIGTERM.value)]:
            hub.at(hub.start + at, lambda kind=kind, argument=argument: self.inflict(kind, argument))
        self.wait_for_all("the day")
        self.after_the_run()
        if self.plan.seed % 4 == 0 or not self.ended_well:
            self.next_morning()

    def wait_for_all(self, what: str) -> None:
        """Until nobody of ours lives."""
        machine, hub = self.machine, self.machine.hub
        if not hub.run(lambda: not machine.kernel.ours, hub.now + AT_MOST) and not hub.failure:
            waiting = [
                f"{proc.kind}/{fiber.name} for {fiber.waiting}"
                for proc in machine.kernel.ours.values()
                for fiber in proc.fibers
                if not fiber.over
            ]
            raise self.rules.broken(f"P12: {what} does not end: {waiting}")
        if hub.failure:
            raise Broken(hub.failure)

    def after_the_run(self) -> None:
        rules, machine = self.rules, self.machine
        state, records = audit.check_journal(machine)
        if self.ended_well:
            assert rules.state is not None
            audit.check_signals_heard(machine)
            audit.check_live_state(machine, rules.state, state)
        last = machine.keepers[-1] if machine.keepers else None
        is_alone = all(kind != "open" for _, kind, _ in self.plan.events)  # else others may have its work
        will_is_done = is_alone and last is not None and last.exit_code == 0  # a keeper has ended by itself
        is_on_record = any(
            isinstance(record, r.RunStarted) for record in records
        )  # else the morning finds it
        if self.ended_well or will_is_done or (is_on_record and not state.run_is_open):
            audit.check_run_is_over(machine, state, records)

    def next_morning(self) -> None:
        """Somebody takes the workflow up again: what was lost is recorded, and everything completes."""
        machine, kernel = self.machine, self.machine.kernel
        self.quiet = True
        machine.hub.at(machine.hub.now + 60.0, lambda: None)  # nobody has the start time of somebody else
        machine.hub.run(lambda: False, machine.hub.now + 60.0)
        disk = machine.disk
        disk.full_until = disk.broken_until = disk.hung_until = kernel.blind_until = 0.0
        kernel.spawn_errors.clear()
        machine.fatal_keepers.clear()
        machine.refused_forks = 0
        self.plan = replace(self.plan, time_limit=None)
        self.player.programs = dict.fromkeys(self.player.programs, Program(seconds=1.0))
        self.ended_well = False
        machine.start("supervisor", SUPERVISOR, self.supervise_again)
        self.wait_for_all("the next morning")
        state, records = audit.check_journal(machine)
        audit.check_run_is_over(machine, state, records)
        left = {state.status[job.job_id] for job in state.workflow.jobs}
        if not left <= {Status.COMPLETED, Status.FAILED, Status.CANCELED}:
            raise self.rules.broken(f"after the next run jobs are {left}")

    # -- what processes of ours do --------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.machine.printed.append((self.machine.hub.now, f"command: {text}".encode()))

    def supervise(self) -> None:
        try:
            with opened.open_workflow(FILES, "run", self.say) as workflow:
                self.run(workflow)
        except TorcError as error:  # it cannot begin: the disk is broken
            self.say(error.message)

    def supervise_again(self) -> None:
        try:
            with opened.open_workflow(FILES, "run", self.say) as workflow:
                state, records = audit.check_journal(self.machine)
                audit.check_run_is_over(self.machine, state, records)
                reinitialize(workflow, plan_reinitialize(workflow.state))
                self.run(workflow)
        except TorcError as error:
            raise self.rules.broken(f"the workflow cannot be taken up again: {error.message}") from None

    def run(self, workflow: opened.OpenWorkflow) -> None:
        self.rules.new_run(workflow.state)
        node = Node(Capacity(self.plan.num_cpus, 1 << 40, 0), ())
        report = run.run(workflow, RunOptions(time_limit=self.plan.time_limit), node, self.say)
        self.ended_well = not report.unconfirmed and report.exit_code != 70

    def cancel(self) -> None:
        owner = read_owner(FILES.lock)
        if owner is not None:
            try:
                requests.leave(FILES, requests.CancelRequest(owner.nonce, None, "now", "here"))
            except OSError as error:
                self.say(f"cancel: {error.strerror}")
                return
            self.machine.hub.at(self.machine.hub.now, lambda: self.machine.signal_supervisor(NUDGE))

    def open(self) -> None:
        """As a command does that only looks after what was lost; it is refused where anybody of a run lives."""
        try:
            with opened.open_workflow(FILES, "reset", self.say):
                self.say("opened")
        except JournalError as error:
            raise self.rules.broken(f"P9: the journal cannot be read: {error.message}") from None
        except TorcError as error:
            self.say(error.message)

    # -- what is inflicted ----------------------------------------------------------------------------------

    def inflict(self, kind: str, argument: Any) -> None:
        """One event; only from the hub."""
        if self.quiet:
            return
        machine, hub, kernel, disk = self.machine, self.machine.hub, self.machine.kernel, self.machine.disk
        supervisor, helper = kernel.supervisor, machine.keeper
        match kind:
            case "signal":
                machine.signal_supervisor(argument)
            case "interrupt_twice" | "signal_again":
                signum = signal.SIGINT if kind == "interrupt_twice" else signal.SIGTERM
                machine.signal_supervisor(signum)
                hub.at(hub.now + argument, lambda: machine.signal_supervisor(signum))
            case "two_signals":
                machine.signal_supervisor(signal.SIGTERM)
                machine.signal_supervisor(signal.SIGUSR1)
            case "cancel":
                if supervisor is not None:
                    machine.start("command", kernel.free_pid(), self.cancel)
            case "open":
                machine.start("command", kernel.command_pid(), self.open).fatal = argument
            case "kill_supervisor" | "kill_both" | "kill_keeper":
                for proc in (supervisor, helper):
                    if proc is not None and kind != (
                        "kill_keeper" if proc is supervisor else "kill_supervisor"
                    ):
                        hub.kill(proc)
            case "power_failure":
                self.power_failure()
            case "freeze_supervisor" | "freeze_keeper":
                proc = supervisor if kind == "freeze_supervisor" else helper
                if proc is not None:
                    proc.frozen_until = hub.now + argument
                    self.rules.held_up += argument
            case "disk_full":
                disk.full_until = hub.now + argument
            case "disk_broken":
                disk.broken_until = hub.now + argument
            case "disk_hangs":
                disk.hung_until = hub.now + argument
            case "blind":
                kernel.blind_until = hub.now + argument
                self.rules.held_up += argument
            case "refuse_forks":
                machine.refused_forks = argument
            case "stop_job" | "murder_job" | "signal_and_exit":
                signum = signal.SIGSTOP if kind == "stop_job" else signal.SIGKILL
                for process in list(kernel.processes.values()):
                    attempt = self.rules.attempts.of(process)
                    if attempt is not None and attempt.job_id == argument:
                        kernel.deliver(process, signum)
                if kind == "signal_and_exit":
                    machine.signal_supervisor(signal.SIGTERM)
            case "clock_jumps":
                disk.epoch_ahead += argument

    def power_failure(self) -> None:
        """The machine stops and starts again."""
        machine, kernel = self.machine, self.machine.kernel
        for proc in list(kernel.ours.values()):
            machine.hub.kill(proc)
        for process in kernel.processes.values():
            process.exit = Signaled(signal.SIGKILL)
            self.rules.ended(process)
        kernel.processes.clear()
        machine.disk.power_failure()
        machine.boot_id = "boot-2"


class EndMover(Errand):
    """Stands for machine.end_watch: the end of the allocation is another one, when the plan says so."""

    def __init__(self, day: Day, begun: float) -> None:
        self._day, self._begun = day, begun
        start = day.machine.hub.start
        self._moves = [] if day.quiet else [(start + at, argument) for at, _, argument in day.moves]
        self.next_deadline = self._moves[0][0] if self._moves else NEVER

    def on_tick(self, desk: Desk) -> None:
        while self._moves and desk.now >= self._moves[0][0]:
            _, left = self._moves.pop(0)
            end = NEVER if left is None else desk.now + left
            longest = deadlines.longest_grace(desk.state.workflow)
            headroom = desk.state.workflow.execution.sigkill_headroom_seconds
            desk.move_end(deadlines.refit(self._begun, desk.now, desk.wall, end, headroom, longest))
        self.next_deadline = self._moves[0][0] if self._moves else NEVER


def _job(job_id: int, fields: dict[str, Any]) -> Job:
    fields = dict(fields)
    requirements = Requirements(runtime_seconds=fields.pop("runtime", None))
    return Job(job_id, f"job-{job_id}", "true", requirements=requirements, **fields)
