"""The fields of execution_config and resource_monitor."""

from __future__ import annotations

from typing import ClassVar

from torc_supervise.workflow.records import Record, Section, entry, record
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.shapes import Choice, Flag, Line, Number, Parsed, Whole
from torc_supervise.workflow.signals import parse_signal, parse_signal_spec

STDIO_MODES = ("separate", "combined", "no_stdout", "no_stderr", "none")
GRANULARITIES = ("summary", "time_series")
ISOLATIONS = ("none", "pid_namespace")
EXIT_CODE = Whole(0, 255)


def parse_spec_text(text: str) -> str:
    """The text itself, if Slurm's --signal would take it."""
    parse_signal_spec(text)
    return text.strip()


SIGNAL_SPEC = Parsed(parse_spec_text, "a signal specification", "TERM@120", numbers=True)


def parse_step_signal(text: str) -> str:
    """As :func:`parse_spec_text`, of a signal that ends a job."""
    parse_signal(parse_signal_spec(text).signal)
    return text.strip()


STEP_SIGNAL = Parsed(parse_step_signal, "a signal specification", "TERM@120", numbers=True)


@record
class StdioSpec(Record):
    """Where the output of jobs goes."""

    noun: ClassVar[str] = "a map with 'mode'"

    mode: str | None = entry(
        Choice(*STDIO_MODES),
        "Two files, one file for both, or no file for one or both of stdout and stderr. Default: separate.",
    )
    delete_on_success: bool | None = entry(
        Flag(), "Whether the files of a job that completed with code 0 are removed. Default: false."
    )


@record
class ExecutionConfigSpec(Record):
    """How jobs are started, limited and ended.  None where the file leaves the field out."""

    mode: str = entry(
        Choice("direct", "slurm", "auto"),
        "Start jobs as child processes (direct), as Slurm steps (slurm), or whichever fits (auto).",
        default="direct",
    )
    limit_resources: bool | None = entry(
        Flag(), "direct: whether a job that exceeds its stated memory is killed. Default: true."
    )
    termination_signal: str | None = entry(
        Parsed(parse_signal, "a signal", "SIGTERM", numbers=True),
        "direct: signal that asks jobs to save and end. Default: SIGTERM.",
    )
    sigterm_lead_seconds: float | None = entry(
        Number(), "direct: seconds between the termination signal and SIGKILL. Default: 30."
    )
    oom_exit_code: int | None = entry(
        EXIT_CODE, "direct: return code of a job killed for its memory. Default: 137."
    )
    isolation: str | None = entry(
        Choice(*ISOLATIONS),
        "direct: whether each job has a PID namespace of its own, which nothing outlives. Default: none.",
    )
    srun_termination_signal: str | None = entry(
        STEP_SIGNAL,
        "slurm: signal that asks jobs to save and end, and seconds between it and SIGKILL. Default: TERM@30.",
    )
    enable_cpu_bind: bool | None = entry(Flag(), "slurm: whether srun binds jobs to CPUs. Default: false.")
    srun_mpi: str | None = entry(
        Line("text"), "direct with start_one_worker_per_node: '--mpi' of the srun that starts the workers."
    )
    sigkill_headroom_seconds: float | None = entry(
        Number(), "Seconds before the allocation's end at which SIGKILL is sent. Default: 60."
    )
    timeout_exit_code: int | None = entry(
        EXIT_CODE, "Return code of a job killed for its time. Default: 152."
    )
    staggered_start: bool | None = entry(
        Flag(), "Whether workers start at slightly different times. Default: true."
    )
    stdio: StdioSpec | None = entry(Section(StdioSpec), "Where the output of jobs goes.")


@record
class JobMonitorSpec(Record):
    """The newer spelling of what is measured of jobs."""

    enabled: bool | None = entry(Flag(), "Whether jobs are measured.")
    granularity: str | None = entry(Choice(*GRANULARITIES), "One figure per job, or all samples.")


@record
class NodeMonitorSpec(Record):
    """What is measured of whole nodes."""

    enabled: bool | None = entry(Flag(), "Whether nodes are measured.")
    granularity: str | None = entry(Choice(*GRANULARITIES), "One figure per node, or all samples.")
    cpu: bool | None = entry(Flag(), "Whether the node's CPUs are measured.")
    memory: bool | None = entry(Flag(), "Whether the node's memory is measured.")


@record
class ResourceMonitorSpec(Record):
    """Whether and how often the jobs' use of resources is measured."""

    enabled: bool = entry(Flag(), "Whether jobs are measured.", default=False)
    granularity: str = entry(Choice(*GRANULARITIES), "One figure per job, or all samples.", default="summary")
    sample_interval_seconds: float = entry(
        Number(0, above=True, most=86400), "Seconds between two samples.", default=5.0
    )
    generate_plots: bool = entry(Flag(), "Whether plots are made of the samples.", default=False)
    flush_interval_seconds: float | None = entry(
        Number(0, above=True), "Seconds between two writes of samples."
    )
    jobs: JobMonitorSpec | None = entry(Section(JobMonitorSpec), "Newer spelling of enabled and granularity.")
    compute_node: NodeMonitorSpec | None = entry(Section(NodeMonitorSpec), "What is measured of whole nodes.")


def check_mode(
    config: ExecutionConfigSpec, report: Report, *, has_schedulers: bool, one_worker_per_node: bool
) -> None:
    """Report every field of execution_config that the mode does not have (TORC's rule: all of them at once).

    Args:
        config: the section.
        report: where the mistakes go.
        has_schedulers: whether the workflow has slurm_schedulers, with which ``auto`` means slurm.
        one_worker_per_node: whether an action starts one worker per node.
    """
    if "mode" in config.broken:
        return
    wrong: list[tuple[str, str]] = []
    if config.mode == "direct":
        wrong += [(name, "slurm") for name in ("srun_termination_signal",) if config.states(name)]
        wrong += [("enable_cpu_bind", "slurm")] if config.enable_cpu_bind else []
    if config.mode == "slurm":
        direct_only = ("termination_signal", "sigterm_lead_seconds", "oom_exit_code", "srun_mpi")
        wrong += [(name, "direct") for name in direct_only if config.states(name)]
    if config.mode == "slurm" or (config.mode == "auto" and has_schedulers):
        wrong += [("limit_resources", "direct")] if config.limit_resources is False else []
        wrong += [("isolation", "direct")] if config.isolation not in (None, "none") else []
    for name, needed in wrong:
        what = f"'{name}{': false' if name == 'limit_resources' else ''}'"
        message = f"{what} needs mode: {needed}, but the mode is {config.mode}"
        report.error(*config.at(name), message, f"remove it or write mode: {needed}")
    if config.mode == "direct" and config.states("srun_mpi") and not one_worker_per_node:
        message = "'srun_mpi' needs an action with start_one_worker_per_node: true"
        report.error(*config.at("srun_mpi"), message, "remove it")
