"""The validated, expanded workflow: what the rest of the program works with.

Everything here is plain data.  References are resolved: a job's dependencies are job ids, its requirements are
numbers, its command has every parameter and ``${files...}`` variable replaced.  :meth:`Workflow.to_dict` is what
the journal's first line holds, and :meth:`Workflow.from_dict` reads it back without any of the validation (and
without the libraries that the validation needs), so that ``status`` of an old journal stays cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import NODEFAULT, Struct

JobId = int

DEFAULT_GRACE_SECONDS = 30.0  # execution_config.sigterm_lead_seconds of Torc
DEFAULT_HEADROOM_SECONDS = 60.0  # execution_config.sigkill_headroom_seconds of Torc
DEFAULT_TIMEOUT_EXIT_CODE = 152  # 128 + SIGXCPU by Slurm's convention
DEFAULT_OOM_EXIT_CODE = 137  # 128 + SIGKILL

SignalScope = Literal["group", "leader"]
Isolation = Literal["none", "pid_namespace"]
StdioMode = Literal["separate", "combined", "no_stdout", "no_stderr", "none"]


class Requirements(Struct, frozen=True, gc=False):
    """What one job needs of the machine.

    ``memory_stated`` and ``runtime_seconds is not None`` tell what the author wrote from what was defaulted:
    only a stated figure is enforced as a limit.
    """

    name: str = "default"
    num_cpus: int = 1
    memory_bytes: int = 1 << 20
    num_gpus: int = 0
    num_nodes: int = 1
    runtime_seconds: float | None = None
    memory_stated: bool = False


class Job(Struct, frozen=True, gc=False):
    """One job after expansion.

    ``depends_on`` holds the ids of all jobs that must complete first, whether written, matched by a regex or
    implied by a file or user_data item that they produce; sorted, without repetition.  ``env`` is the workflow's
    and the job's ``env`` merged, the job's winning.  ``termination_signal`` and ``sigterm_lead_seconds`` are None
    where the job leaves them to the workflow.
    """

    job_id: JobId
    name: str
    command: str
    invocation_script: str | None = None
    depends_on: tuple[JobId, ...] = ()
    requirements: Requirements = Requirements()
    priority: int = 0
    supports_termination: bool = False
    cancel_on_blocking_job_failure: bool = True
    env: Mapping[str, str] = {}
    termination_signal: str | None = None  # "SIGTERM", always with the prefix
    sigterm_lead_seconds: float | None = None
    signal_scope: SignalScope = "group"
    isolation: Isolation | None = None  # None leaves it to the workflow
    checkpoint: str | None = None  # path of a file that the job replaces when it saves
    input_files: tuple[str, ...] = ()  # names of Workflow.files entries
    output_files: tuple[str, ...] = ()
    input_user_data: tuple[str, ...] = ()
    output_user_data: tuple[str, ...] = ()
    scheduler: str | None = None
    failure_handler: str | None = None
    stdio: StdioMode | None = None
    delete_stdio_on_success: bool | None = None  # None leaves it to the workflow


class ExecutionConfig(Struct, frozen=True, gc=False):
    """``execution_config``; ``sigterm_lead_stated`` tells whether the file gave the lead or we defaulted it."""

    mode: str = "direct"
    limit_resources: bool = True
    termination_signal: str = "SIGTERM"
    sigterm_lead_seconds: float = DEFAULT_GRACE_SECONDS
    sigterm_lead_stated: bool = False
    sigkill_headroom_seconds: float = DEFAULT_HEADROOM_SECONDS
    timeout_exit_code: int = DEFAULT_TIMEOUT_EXIT_CODE
    oom_exit_code: int = DEFAULT_OOM_EXIT_CODE
    isolation: Isolation = "none"
    stdio: StdioMode = "separate"
    delete_stdio_on_success: bool = False
    # The fields of Torc that only Slurm's own engine reads, as they were written.
    slurm: Mapping[str, Any] = {}


class ResourceMonitor(Struct, frozen=True, gc=False):
    """``resource_monitor``: whether and how often the sampler looks at the jobs' process trees."""

    enabled: bool = False
    granularity: str = "summary"
    sample_interval_seconds: float = 5.0


class Workflow(Struct, frozen=True, gc=False):
    """A whole workflow, ready to be journaled and run.

    ``jobs`` is in file order, job ids counting from 1.  ``spec_path`` is the absolute path of the file it came
    from (None for stdin).  ``extra`` keeps the parts that later stages read as they were written and validated:
    slurm_schedulers, slurm_defaults, actions, failure_handlers, metadata and the compute_node_* settings.
    """

    name: str
    jobs: tuple[Job, ...]
    user: str = "unknown"
    description: str | None = None
    project: str | None = None
    files: Mapping[str, str] = {}  # name -> path, relative to the working directory
    user_data: Mapping[str, Any] = {}  # name -> JSON value
    jobs_sort_method: str = "gpus_runtime_memory"
    execution: ExecutionConfig = ExecutionConfig()
    resource_monitor: ResourceMonitor = ResourceMonitor()
    spec_path: str | None = None
    extra: Mapping[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: defaults are left out, requirements are shared through a table by position."""
        table: dict[Requirements, int] = {}
        jobs = [_job_to_dict(job, table) for job in self.jobs]
        out = _without_defaults(self, skip={"jobs", "execution", "resource_monitor"})
        out["execution"] = _without_defaults(self.execution)
        out["resource_monitor"] = _without_defaults(self.resource_monitor)
        out["requirements"] = [_without_defaults(entry) for entry in table]
        out["jobs"] = jobs
        return out

    def isolates(self, job: Job) -> bool:
        """Whether a job has a PID namespace of its own."""
        return (job.isolation or self.execution.isolation) == "pid_namespace"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workflow:
        """The inverse of :meth:`to_dict`; keys that a newer version added are ignored."""
        table = [Requirements(**_known(Requirements, entry)) for entry in data["requirements"]]
        scalars = _known(cls, data)
        scalars["jobs"] = tuple(_job_from_dict(entry, table) for entry in data["jobs"])
        scalars["execution"] = ExecutionConfig(**_known(ExecutionConfig, data["execution"]))
        scalars["resource_monitor"] = ResourceMonitor(**_known(ResourceMonitor, data["resource_monitor"]))
        return cls(**scalars)


def _defaults_of(cls: type[Any]) -> dict[str, Any]:
    """The default of every field; NODEFAULT, which equals nothing, where it has none."""
    fields = cls.__struct_fields__
    bare = cls(*[NODEFAULT] * (len(fields) - len(cls.__struct_defaults__)))
    return {name: getattr(bare, name) for name in fields}


_DEFAULTS: dict[type[Any], dict[str, Any]] = {
    cls: _defaults_of(cls) for cls in (Requirements, Job, ExecutionConfig, ResourceMonitor, Workflow)
}
_TUPLES = ("depends_on", "input_files", "output_files", "input_user_data", "output_user_data")


def _without_defaults(item: Any, skip: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    defaults = _DEFAULTS[type(item)]
    return {
        name: value
        for name, default in defaults.items()
        if name not in skip and (value := getattr(item, name)) != default
    }


def _known(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = _DEFAULTS[cls]
    return {key: value for key, value in data.items() if key in names}


def _job_to_dict(job: Job, table: dict[Requirements, int]) -> dict[str, Any]:
    out = _without_defaults(job, skip={"requirements"})
    out["requirements"] = table.setdefault(job.requirements, len(table))
    return out


def _job_from_dict(data: Mapping[str, Any], table: list[Requirements]) -> Job:
    values = _known(Job, data)
    values["requirements"] = table[values["requirements"]]
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    return Job(**values)
