"""Run: a workflow on this machine, from a locked journal to an exit code."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import time
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.environment import RunEnvironment
from torc_supervise.errors import EXIT_FAILED, EXIT_OK, EXIT_OURS, EXIT_RESUME, TorcError
from torc_supervise.helpers.keeper import KeeperSetup
from torc_supervise.helpers.link import KeeperLink, SamplerLink
from torc_supervise.launch import Launcher
from torc_supervise.loop import Loop
from torc_supervise.machine import deadlines
from torc_supervise.machine import records as r
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.end_watch import EndWatch
from torc_supervise.machine.errands import Errand
from torc_supervise.machine.limits import execution_of_steps
from torc_supervise.machine.pace import BURST, STEPS_PER_SECOND, Pace
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import RunState, Status
from torc_supervise.machine.step_check import StepCheck
from torc_supervise.machine.supervision import Supervision
from torc_supervise.operations.follow_up import follow_up
from torc_supervise.operations.opened import OpenWorkflow
from torc_supervise.operations.surroundings import Machine, RunOptions, Say, warn_of_other_nodes
from torc_supervise.operations.without_keeper import jobs_ended, write_without_keeper
from torc_supervise.posix import cgroups, clock, descriptors, host, memory, namespaces, procfs
from torc_supervise.posix.cgroups import RunCgroup
from torc_supervise.posix.kernel import Kernel, RealKernel
from torc_supervise.posix.shell import find_bash
from torc_supervise.posix.spawn import keep_descriptors_from_children
from torc_supervise.posix.steps import StepKernel
from torc_supervise.posix.subreaper import become_subreaper
from torc_supervise.posix.wakeup import Wakeup
from torc_supervise.scheduler import Scheduler
from torc_supervise.workflow.model import Workflow
from torc_supervise.workflow.schedulers import runs_in

FLUSH_LIMIT = 60.0
"""Seconds that a supervisor whose jobs are all gone waits for its keeper to confirm the last records."""

WAKE_KEEPER_AFTER = 5.0
"""Seconds of that after which the keeper gets a SIGCONT and the user a word."""

EXIT_CODES = {
    RunState.COMPLETED: EXIT_OK,
    RunState.FAILED: EXIT_FAILED,
    RunState.CANCELED: EXIT_FAILED,
    RunState.TERMINATED: EXIT_RESUME,
    RunState.READY: EXIT_RESUME,
}


class RunReport(Struct, frozen=True):
    """What became of it.  ``unconfirmed``: records that the keeper had not written when we had to leave.

    ``slurm_job_id``: of the allocation that it ran in, if there was one.
    """

    workflow_id: int
    run_id: int
    state: RunState
    exit_code: int
    jobs_by_status: dict[Status, int]
    unconfirmed: int = 0
    slurm_job_id: str | None = None


def run(opened: OpenWorkflow, options: RunOptions, machine: Machine, say: Say) -> RunReport:
    """Run what is ready and what becomes ready, until nothing is left or it has to end.

    Raises:
        TorcError: it cannot be started (no bash, no process for the keeper).
    """
    bash = find_bash()
    if bash is None:
        raise TorcError("bash was not found on this machine", "jobs are run by 'bash -c': install it")
    open_files = prepare_process(say)
    state, now = opened.state, clock.monotonic()
    if machine.steps is not None:
        execution = execution_of_steps(state.workflow.execution)
        state.workflow = replace(state.workflow, execution=execution)
    elif machine.allocation is not None:
        warn_of_other_nodes(machine.allocation, say)
    wall = wall_time(state.workflow, now, machine.end(now, options.time_limit), say)
    end_epoch = clock.epoch() + (wall.end - now) if wall.known else None
    real = RealKernel()
    kernel: Kernel = real if machine.steps is None else StepKernel(real)
    if machine.steps is None and any(map(state.workflow.isolates, state.workflow.jobs)):
        real.stdin = namespaces.lifeline()
    gc.collect()
    gc.freeze()  # what is loaded by now is never garbage: keep the collector, and copy-on-write, away from it
    its_lock = copy.copy(opened.lock)
    setup = KeeperSetup(opened.files, state, its_lock, wall, progress=options.progress)
    # Race: a signal comes while the keeper is being forked.  Python may raise its own Ctrl-C in a finalizer, which only
    # prints it.  So signals are ours from before the first helper on, and wait for the loop's first turn: nothing up to
    # there waits for anything.
    # Test: test_surroundings.py::test_p1_a_signal_that_comes_before_the_loop_is_not_lost.
    with (
        Wakeup(continued=machine.allocation is not None) as wakeup,
        contextlib.closing(_hire_keeper(setup, opened.seq, real, wakeup.fds())) as keeper,
    ):
        # From here on it writes, also where an exception ends us: it alone knows when the workflow is free again.  And
        # removing a lock may wait for a file server, which is its business (P8).
        opened.lock.leave_to_keeper()
        sampler = None
        if machine.steps is None:  # what steps use is Slurm's to limit, on nodes that we do not see
            sampler = _start_sampler(state.workflow, [*wakeup.fds(), keeper.channel.fileno()], real)
        runs_here = runs_in(state.workflow, options.scheduler)
        scheduler = Scheduler(machine.capacity, state.workflow.jobs_sort_method, runs_here)
        nonce = opened.lock.owner.nonce  # whoever takes the lock over from us knows it (decisions/0023)
        more = follow_up(
            state,
            opened.files,
            machine.allocation.job_id if machine.allocation is not None else None,
            options,
            open_files=open_files,
            end_epoch=end_epoch - wall.headroom if end_epoch is not None else None,
            nonce=nonce,
        )
        pace = Pace(STEPS_PER_SECOND, BURST) if machine.steps is not None else None
        supervision = Supervision(state, scheduler, wall, [*errands(machine, options, now), *more], pace)
        environment = RunEnvironment(
            dict(os.environ),
            state.workflow,
            state.workflow_id,
            opened.files.output,
            os.getcwd(),
            machine.gpu_names,
            end_epoch - wall.headroom if end_epoch is not None else None,
            wall.grace_scale,
        )
        cgroup = cgroups.make(nonce) if machine.steps is None else None
        of_jobs = cgroups.JobCgroups(cgroup) if cgroup is not None else None
        adjust = memory.jobs_oom_score_adj()
        launcher = Launcher(
            bash, opened.files, environment, open_files, machine.steps, nonce, adjust, of_jobs
        )
        with (
            contextlib.closing(
                Loop(
                    supervision,
                    kernel,
                    wakeup,
                    launcher,
                    keeper,
                    sampler,
                    signals_first=machine.allocation is not None,
                )
            ) as loop,
            jobs_ended(supervision, kernel, keeper, opened.files.output),
        ):
            supervision.at(clock.monotonic(), clock.wall())
            supervision.begin(_run_started(opened, options, machine, end_epoch, keeper.pid, nonce, cgroup))
            loop.run()
            final = supervision.outcome()
            supervision.end(r.RunEnded(state.run_id, final.value, EXIT_CODES[final]))
            loop.write_now()
            if of_jobs is not None:
                of_jobs.remove()  # while the keeper writes
            confirmed = _leave(loop, keeper, supervision.wall, state)
            wakeup.ignore_from_now_on()
    code = EXIT_CODES[final] if confirmed and not keeper.disowned else EXIT_OURS
    allocation = machine.allocation
    return RunReport(
        state.workflow_id,
        state.run_id,
        final,
        code,
        dict(state.counts),
        keeper.unconfirmed,
        allocation.job_id if allocation is not None else None,
    )


def prepare_process(say: Say) -> int | None:
    """Things of the whole process that must be so before the first child exists.

    Returns:
        the soft limit on open files that jobs are to return to, None where it was not raised.
    """
    open_files = descriptors.raise_limit()
    keep_descriptors_from_children()
    failure = become_subreaper()
    if failure is not None:
        say(f"warning: orphans of jobs go to init, not to us ({failure}); what daemonises may get away")
    if not procfs.has_children_files():
        say(
            "warning: this kernel has no /proc/PID/task/TID/children; looking for members of groups is slower"
        )
    return open_files


def wall_time(workflow: Workflow, now: float, end: float, say: Say) -> WallTime:
    """The end of the allocation with headroom and grace that fit it; says so where they had to be shortened.

    Args:
        now, end: monotonic seconds.
    """
    headroom, longest = workflow.execution.sigkill_headroom_seconds, deadlines.longest_grace(workflow)
    wall = deadlines.fit(now, end, headroom, longest)
    if wall.known and (wall.grace_scale < 1.0 or wall.headroom < headroom):
        say(f"warning: {deadlines.shortened_text(wall, end - now, headroom, longest)}")
    return wall


def errands(machine: Machine, options: RunOptions, now: float) -> list[Errand]:
    """What this run has to see to besides its jobs."""
    allocation, term = machine.allocation, machine.term
    if allocation is None:
        return []
    watch = EndWatch(
        allocation.job_id,
        term.end,
        begun=now,
        epoch_ahead=clock.epoch() - now,
        iso=clock.iso,
        limit=machine.end_by_limit(now, options.time_limit),
        warned_by=options.warning,
        asked=term.asked,
        kill_wait=term.kill_wait,
    )
    return [watch] if machine.steps is None else [watch, StepCheck(allocation.job_id)]


def _hire_keeper(setup: KeeperSetup, last_seq: int, kernel: RealKernel, close: Iterable[int]) -> KeeperLink:
    """The first keeper.

    Raises:
        TorcError: the machine is too full for one more process.
    """
    try:
        return KeeperLink(setup, last_seq, kernel.reaper.add_helper, close)
    except OSError as error:
        raise TorcError(
            f"no process can be started for the keeper: {error.strerror}",
            "nothing was started; try again when this machine is less full",
        ) from error


def _start_sampler(workflow: Workflow, close: list[int], kernel: RealKernel) -> SamplerLink | None:
    """Only where somebody asked for figures or stated a memory limit."""
    enforce = workflow.execution.limit_resources
    stated = enforce and any(job.requirements.memory_stated for job in workflow.jobs)
    if not (stated or workflow.resource_monitor.enabled):
        return None
    interval = workflow.resource_monitor.sample_interval_seconds
    return SamplerLink(interval, enforce, close, kernel.reaper.add_helper)


def _run_started(
    opened: OpenWorkflow,
    options: RunOptions,
    machine: Machine,
    end_epoch: float | None,
    keeper_pid: int,
    nonce: str,
    cgroup: RunCgroup | None,
) -> r.RunStarted:
    capacity, allocation = machine.capacity, machine.allocation
    return r.RunStarted(
        run_id=opened.state.run_id,
        host=host.name(),
        pid=os.getpid(),
        boot_id=procfs.boot_id(),
        boot_offset=round(clock.boot_offset(), 3),
        slurm_job_id=allocation.job_id if allocation is not None else None,
        end_time=clock.iso(end_epoch) if end_epoch is not None else None,
        num_cpus=capacity.num_cpus,
        memory_bytes=capacity.memory_bytes,
        num_gpus=capacity.num_gpus,
        max_parallel_jobs=capacity.max_parallel_jobs,
        keeper_pid=keeper_pid,
        mode="slurm" if machine.steps is not None else None,
        nodes=(allocation.nodes or None) if allocation is not None else None,
        scheduler=options.scheduler,
        auto_resubmit=options.auto_resubmit or None,
        nonce=nonce,
        cgroup=cgroup.directory if cgroup is not None else None,
    )


def _leave(loop: Loop, keeper: KeeperLink, wall: WallTime, state: WorkflowState) -> bool:
    """No job is left.  Wait for the keeper, with a limit (P12); False if records are not durable when it is reached.

    A keeper that has written everything and hangs at the rest (the lock, a terminal) is waited for only a moment.
    """
    keeper.leave()
    loop.write_now()
    now = time.monotonic()
    limit = now + FLUSH_LIMIT
    if wall.known:
        limit = min(limit, max(wall.end - 1.0, now + WAKE_KEEPER_AFTER))
    if loop.wait_for_keeper(min(limit, now + WAKE_KEEPER_AFTER)):
        keeper.finish_speaking()
        return True
    keeper.wake()
    if keeper.unconfirmed and keeper.pid and not keeper.voice.raised:
        keeper.say_ourselves(
            f"waiting up to {limit - now:.0f} s for {keeper.unconfirmed} records to be written: "
            "is the disk slow or full?"
        )
        loop.wait_for_keeper(limit)
    if keeper.unconfirmed:
        write_without_keeper(loop, keeper, state, limit)
    keeper.finish_speaking()
    return not keeper.unconfirmed
