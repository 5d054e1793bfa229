"""Which allocations a workflow asks for at its start, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from torc_supervise.errors import TorcError, UsageError
from torc_supervise.operations.allocation_checks import (
    Asked,
    Finding,
    check_allocations,
    check_partitions,
    refuse,
)
from torc_supervise.slurm.batch import RunSettings
from torc_supervise.slurm.options import allocation_options
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.schedulers import (
    ScheduleAction,
    SlurmScheduler,
    runs_in,
    schedule_actions,
    slurm_schedulers,
)

Say = Callable[[str], None]


class SubmitOptions(Struct, frozen=True):
    """What the command line says.

    ``scheduler``: the slurm_schedulers entry to use instead of what the actions say.  ``auto_resubmit``: how many
    further allocations may be queued by the supervisor itself.
    """

    scheduler: str | None = None
    auto_resubmit: int = 0
    max_parallel_jobs: int | None = None
    force: bool = False


class Wanted(Struct, frozen=True):
    """One allocation to ask for."""

    scheduler: SlurmScheduler
    settings: RunSettings


def plan_allocations(workflow: Workflow, options: SubmitOptions) -> list[Wanted]:
    """Which allocations to ask for, one after the other.

    Raises:
        UsageError: nobody says which, or the scheduler that was named does not exist.
        TorcError: it asks for what is not built: several allocations at a time, one worker on each node.
    """
    known = slurm_schedulers(workflow)
    settings = RunSettings(options.auto_resubmit, options.max_parallel_jobs, options.force)
    if not known:
        raise UsageError(
            f"workflow '{workflow.name}' has no slurm_schedulers with a name, so there is nothing to ask Slurm for",
            "add an entry with 'name' and 'account', or use 'torc-supervise run' inside an allocation of your own",
        )
    if options.scheduler is not None:
        if options.scheduler not in known:
            raise UsageError(
                f"--scheduler {options.scheduler}: no slurm_schedulers entry of that name", _there_are(known)
            )
        return [Wanted(known[options.scheduler], settings)]
    actions = [action for action in schedule_actions(workflow) if action.trigger == "on_workflow_start"]
    if actions:
        return _by_actions(actions, known, settings)
    if len(known) > 1:
        raise UsageError(
            f"workflow '{workflow.name}' has {len(known)} slurm_schedulers and no action that says which to use",
            f"add --scheduler NAME, or an on_workflow_start action of type schedule_nodes; {_there_are(known)}",
        )
    return [Wanted(scheduler, settings) for scheduler in known.values()]


def _by_actions(
    actions: Sequence[ScheduleAction], known: dict[str, SlurmScheduler], settings: RunSettings
) -> list[Wanted]:
    for action in actions:
        if action.start_one_worker_per_node:
            raise TorcError(
                f"actions[{action.index}]: start_one_worker_per_node is not supported: a workflow has one supervisor",
                "remove it; with execution_config.mode: slurm that supervisor starts jobs on all nodes",
            )
    wanted = []
    for action in actions:
        limit = settings.max_parallel_jobs or action.max_parallel_jobs
        told = RunSettings(settings.auto_resubmit, limit, settings.force)
        wanted += [Wanted(known[action.scheduler], told)] * action.num_allocations
    parallel = sorted({one.scheduler.name for one in wanted if not one.scheduler.serialize_allocations})
    if len(wanted) > 1 and parallel:
        raise TorcError(
            f"the actions ask for {len(wanted)} allocations at the start, and one workflow has one supervisor, so one "
            "allocation at a time",
            f"set serialize_allocations: true in {', '.join(parallel)} to have them one after the other, ask for more "
            "nodes in one allocation, or set num_allocations: 1 and add --auto-resubmit N",
        )
    return wanted


def _there_are(known: Iterable[str]) -> str:
    return f"there are: {', '.join(known)}"


def jobs_of(workflow: Workflow, scheduler: SlurmScheduler, left: Iterable[Job]) -> list[Job]:
    return list(filter(runs_in(workflow, scheduler.name), left))


def _asked(workflow: Workflow, one: Wanted, left: Iterable[Job]) -> Asked:
    own = jobs_of(workflow, one.scheduler, left)
    # Of job steps Slurm itself counts the amounts, whatever the number of jobs.
    counts_jobs = one.settings.max_parallel_jobs is not None and workflow.execution.mode == "direct"
    return Asked(one.scheduler, allocation_options(workflow, one.scheduler, own), own, counts_jobs)


def check(
    workflow: Workflow, wanted: Sequence[Wanted], left: Sequence[Job], say: Say, *, ask_slurm: bool = True
) -> None:
    """Say what is doubtful, and refuse what cannot work.

    Args:
        left: the jobs that are still to run.
        ask_slurm: whether sinfo is asked, too.

    Raises:
        TorcError: with all that is wrong.
    """
    asked = _all_asked(workflow, wanted, left)
    findings = check_allocations(workflow, asked, _asked_later(workflow, left))
    if ask_slurm:
        findings += check_partitions(asked)
    for finding in findings:
        if not finding.is_error:
            say(f"warning: {finding.message}")
    refuse(findings)


def advise(workflow: Workflow) -> list[Finding]:
    """What ``submit`` would say about a workflow file; nothing where it asks for no allocation.  Asks nobody."""
    if not slurm_schedulers(workflow):
        return []
    try:
        wanted = plan_allocations(workflow, SubmitOptions())
    except TorcError as error:
        return [Finding(error.message, is_error=True)]
    asked = _all_asked(workflow, wanted, workflow.jobs)
    return check_allocations(workflow, asked, _asked_later(workflow, workflow.jobs))


def _all_asked(workflow: Workflow, wanted: Iterable[Wanted], left: Iterable[Job]) -> list[Asked]:
    different = {one.scheduler.name: one for one in wanted}
    return [_asked(workflow, one, left) for one in different.values()]


def _asked_later(workflow: Workflow, left: Iterable[Job]) -> list[Asked]:
    known = slurm_schedulers(workflow)
    return [
        _asked(workflow, Wanted(known[action.scheduler], RunSettings()), left)
        for action in schedule_actions(workflow)
        if action.trigger != "on_workflow_start"
    ]
