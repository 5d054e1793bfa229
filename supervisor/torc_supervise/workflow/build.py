"""The checked parts of a file to the model that the rest of the program works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torc_supervise.workflow import model
from torc_supervise.workflow.actions import with_job_ids
from torc_supervise.workflow.nodes import child, to_plain
from torc_supervise.workflow.references import ResolvedJob
from torc_supervise.workflow.spec import JobSpec, RequirementsFields, WorkflowSpec
from torc_supervise.workflow.spec_execution import ExecutionConfigSpec, ResourceMonitorSpec, StdioSpec

INLINE = "inline"  # name of the requirements that stand in a job itself

# Kept as they were written, for the parts of the program that read them on their own.
_EXTRA = (
    "slurm_schedulers", "slurm_defaults", "actions", "failure_handlers", "metadata", "use_pending_failed",
    "compute_node_expiration_buffer_seconds", "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion", "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds",
)  # fmt: skip
_SLURM_ONLY = ("srun_termination_signal", "enable_cpu_bind", "srun_mpi", "staggered_start")


def build_workflow(
    spec: WorkflowSpec,
    resolved: Sequence[ResolvedJob],
    files: Mapping[str, str],
    user_data: Mapping[str, Any],
    action_jobs: Sequence[Sequence[int]],
    *,
    user: str,
    spec_path: str | None,
) -> model.Workflow:
    """The workflow of a file without mistakes; job ids count from 1 in file order.

    Args:
        action_jobs: for each action the positions of its jobs, from 0.
    """
    extra = {
        name: to_plain(child(spec.origin, name), keep_null=name == "metadata")
        for name in _EXTRA
        if spec.states(name)
    }
    if spec.actions:
        job_ids = [[position + 1 for position in positions] for positions in action_jobs]
        extra["actions"] = with_job_ids(extra["actions"], job_ids)
    return model.Workflow(
        name=spec.name,
        jobs=tuple(_Jobs(spec).build(resolved)),
        user=user,
        description=spec.description,
        project=spec.project,
        files=files,
        user_data=user_data,
        jobs_sort_method=spec.jobs_sort_method,
        execution=_execution(spec.execution_config or ExecutionConfigSpec()),
        resource_monitor=_monitor(spec.resource_monitor or ResourceMonitorSpec()),
        spec_path=spec_path,
        extra=extra,
    )


class _Jobs:
    """Builds jobs; what jobs of one spec have in common is made once."""

    def __init__(self, spec: WorkflowSpec) -> None:
        self.workflow_env = dict(spec.env)
        self.named = {entry.name: _requirements(entry.name, entry) for entry in spec.resource_requirements}
        self.inline: dict[int, model.Requirements] = {}
        # Keyed by id(): the resolved jobs keep those objects alive for as long as this builder is used.
        self.ids: dict[int, tuple[int, ...]] = {}  # tuple of positions -> job ids
        self.env: dict[int, Mapping[str, str]] = {}  # a job's own env -> merged with the workflow's

    def build(self, resolved: Sequence[ResolvedJob]) -> list[model.Job]:
        return [self._job(job_id, item) for job_id, item in enumerate(resolved, start=1)]

    def _job(self, job_id: int, item: ResolvedJob) -> model.Job:
        job, spec, uses = item.job, item.job.spec, item.uses
        stdio, delete = _stdio(spec.stdio)
        return model.Job(
            job_id=job_id,
            name=job.name,
            command=item.command,
            invocation_script=item.invocation_script,
            depends_on=self._ids_of(item.depends_on),
            requirements=self._requirements_of(spec, job.requirements),
            priority=spec.priority,
            supports_termination=spec.supports_termination,
            cancel_on_blocking_job_failure=spec.cancel_on_blocking_job_failure,
            env=self._env_of(job.env),
            termination_signal=spec.termination_signal,
            sigterm_lead_seconds=spec.sigterm_lead_seconds,
            signal_scope=cast(model.SignalScope, spec.signal_scope),
            isolation=cast("model.Isolation | None", spec.isolation),
            checkpoint=job.checkpoint,
            input_files=uses.get("input_files", ()),
            output_files=uses.get("output_files", ()),
            input_user_data=uses.get("input_user_data", ()),
            output_user_data=uses.get("output_user_data", ()),
            scheduler=job.scheduler,
            failure_handler=spec.failure_handler,
            stdio=stdio,
            delete_stdio_on_success=delete,
        )

    def _ids_of(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """Ids count from 1.  Jobs that wait for the same thousands of others share one tuple."""
        ids = self.ids.get(id(positions))
        if ids is None:
            ids = self.ids[id(positions)] = tuple([position + 1 for position in positions])
        return ids

    def _requirements_of(self, spec: JobSpec, name: str | None) -> model.Requirements:
        if name is not None:
            return self.named.get(name) or model.Requirements()  # "default"
        inline = spec.resource_requirements
        if inline is None or isinstance(inline, str):
            return model.Requirements()
        known = self.inline.get(id(inline))
        if known is None:
            known = self.inline[id(inline)] = _requirements(INLINE, inline)
        return known

    def _env_of(self, own: Mapping[str, str]) -> Mapping[str, str]:
        merged = self.env.get(id(own))
        if merged is None:
            merged = self.env[id(own)] = {**self.workflow_env, **own}
        return merged


def _requirements(name: str, fields: RequirementsFields) -> model.Requirements:
    return model.Requirements(
        name=name,
        num_cpus=fields.num_cpus,
        memory_bytes=fields.memory,
        num_gpus=fields.num_gpus,
        num_nodes=fields.num_nodes,
        runtime_seconds=fields.runtime,
        memory_stated=True,
    )


def _stdio(stdio: str | StdioSpec | None) -> tuple[model.StdioMode | None, bool | None]:
    if stdio is None or isinstance(stdio, str):
        return cast("model.StdioMode | None", stdio), None
    return cast("model.StdioMode | None", stdio.mode), stdio.delete_on_success


def _execution(config: ExecutionConfigSpec) -> model.ExecutionConfig:
    """The section with the defaults of Torc where the file leaves something out."""
    stdio, delete = _stdio(config.stdio)
    given: dict[str, Any] = {
        "limit_resources": config.limit_resources,
        "termination_signal": config.termination_signal,
        "sigterm_lead_seconds": config.sigterm_lead_seconds,
        "sigkill_headroom_seconds": config.sigkill_headroom_seconds,
        "timeout_exit_code": config.timeout_exit_code,
        "oom_exit_code": config.oom_exit_code,
        "isolation": config.isolation,
        "stdio": stdio,
        "delete_stdio_on_success": delete,
    }
    return model.ExecutionConfig(
        mode=config.mode,
        sigterm_lead_stated=config.sigterm_lead_seconds is not None,
        slurm={name: getattr(config, name) for name in _SLURM_ONLY if getattr(config, name) is not None},
        **{name: value for name, value in given.items() if value is not None},
    )


def _monitor(monitor: ResourceMonitorSpec) -> model.ResourceMonitor:
    """The section; the newer ``jobs`` map wins over the flat fields."""
    enabled, granularity = monitor.enabled, monitor.granularity
    if monitor.jobs is not None:
        enabled = enabled if monitor.jobs.enabled is None else monitor.jobs.enabled
        granularity = monitor.jobs.granularity or granularity
    return model.ResourceMonitor(
        enabled=enabled, granularity=granularity, sample_interval_seconds=monitor.sample_interval_seconds
    )
