"""``torc-supervise reinitialize`` and ``reset-status``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc_supervise import (
    DEFAULT_OUTPUT_DIRECTORY,
    ReinitializePlan,
    Workflow,
    WorkflowState,
    check_directory,
    find,
    load,
    open_workflow,
    plan_reinitialize,
    read_only,
    reset_status,
    take_over_ids,
)
from torc_supervise import reinitialize as carry_out
from torc_supervise_cli.options import ForceOption, FormatOption, IdArgument, OutputOption, wants_json
from torc_supervise_cli.output import command, plural, print_json, print_table, say
from torc_supervise_cli.running import user

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def reinitialize(
    ctx: typer.Context,
    workflow_id: IdArgument,
    dry_run: DryRunOption = False,
    spec: Annotated[
        str | None,
        typer.Option("--spec", help="Take over this changed version of the workflow file.", metavar="SPEC"),
    ] = None,
    force: ForceOption = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Make ready again what was terminated or interrupted, or whose inputs, command or outputs have changed.

    Says which jobs, and why. Jobs that completed stay completed; for failed ones see reset-status.

    Example: torc-supervise reinitialize 1 --dry-run
    """
    loaded = load(spec, user=user()) if spec is not None else None
    new = loaded.workflow if loaded is not None else None
    files = find(output_dir, workflow_id)
    if dry_run:
        state = read_only(files)
        plan = _plan(state, new, force=force)
    else:
        with open_workflow(files, "reinitialize", say) as opened:
            state = opened.state
            plan = _plan(state, new, force=force)
            carry_out(opened, plan, force=force)
    names = {job.job_id: job.name for job in (plan.updated or state.workflow).jobs}
    if wants_json(ctx, format_):
        print_json(_document(workflow_id, plan, names, dry_run=dry_run))
        return
    _print_plan(plan, names, dry_run=dry_run)
    _warn_of_missing(plan)
    if not dry_run and state.left_to_run:
        what = "them" if plan.reset else "what is left"
        _print_how_to_run(workflow_id, plan.updated or state.workflow, output_dir, what)


def reset(
    ctx: typer.Context,
    workflow_id: IdArgument,
    failed_only: Annotated[
        bool,
        typer.Option(
            "--failed-only", help="Only failed, canceled and terminated jobs and what depends on them."
        ),
    ] = False,
    reinitialize: Annotated[bool, typer.Option("--reinitialize", help="Make them ready at once.")] = False,
    force: ForceOption = False,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Put jobs back to uninitialized, so that the next run runs them again.

    Example: torc-supervise reset-status 1 --failed-only
    """
    with open_workflow(find(output_dir, workflow_id), "reset-status", say) as opened:
        names = reset_status(opened, failed_only=failed_only)
        if reinitialize and names:
            carry_out(opened, _plan(opened.state, None, force=force), force=force)
        run_id, workflow = opened.state.run_id, opened.state.workflow
    if wants_json(ctx, format_):
        print_json(
            {
                "workflow_id": workflow_id,
                "run_id": run_id,
                "failed_only": failed_only,
                "reinitialized": reinitialize,
                "reset": names,
            }
        )
        return
    if not names:
        print("nothing to reset")
        return
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    print(f"{plural(len(names), 'job')} reset: {shown}")
    _print_how_to_run(workflow_id, workflow, output_dir)


def _print_how_to_run(workflow_id: int, workflow: Workflow, output: str, what: str = "them") -> None:
    ways = [command(f"run {workflow_id}", output)]
    if workflow.extra.get("slurm_schedulers"):
        ways.append(f"{command(f'submit {workflow_id}', output)} to queue an allocation")
    print(f"to run {what}: {', or '.join(ways)}")


def _plan(state: WorkflowState, new: Workflow | None, *, force: bool) -> ReinitializePlan:
    check_directory(state, force)
    return plan_reinitialize(state, take_over_ids(state, new) if new is not None else None)


def _document(
    workflow_id: int, plan: ReinitializePlan, names: dict[int, str], *, dry_run: bool
) -> dict[str, Any]:
    return {
        "workflow_id": workflow_id,
        "run_id": plan.run_id,
        "dry_run": dry_run,
        "reset": [{"job_id": j, "name": names[j], "reason": reason} for j, reason in plan.reset.items()],
        "missing_input_files": [{"name": name, "path": path} for name, path in plan.missing_inputs],
    }


def _print_plan(plan: ReinitializePlan, names: dict[int, str], *, dry_run: bool) -> None:
    if not plan.reset:
        print("nothing has to run again")
        return
    verb = "would run" if dry_run else "run" if len(plan.reset) > 1 else "runs"
    print(f"{plural(len(plan.reset), 'job')} {verb} again, as run {plan.run_id}:")
    print_table(("id", "name", "why"), [(j, names[j], why) for j, why in plan.reset.items()], right=("id",))


def _warn_of_missing(plan: ReinitializePlan) -> None:
    for name, path in plan.missing_inputs:
        say(f"warning: required input '{name}' ({path}) is missing")
