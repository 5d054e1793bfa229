"""The fields of a workflow file: the top level, jobs, requirements, files and user data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torc_supervise.workflow import duration, memory
from torc_supervise.workflow.containers import Either, Json, ListOf, MapOf
from torc_supervise.workflow.nodes import Node, Scalar, describe
from torc_supervise.workflow.parameters import ParameterValues, Values, refuse_parameter_name
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.records import Record, Section, entry, record
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.shapes import (
    INVALID,
    Choice,
    Flag,
    Line,
    Number,
    Parsed,
    Schema,
    Shape,
    Text,
    Whole,
)
from torc_supervise.workflow.signals import parse_signal
from torc_supervise.workflow.spec_execution import (
    ISOLATIONS,
    STDIO_MODES,
    ExecutionConfigSpec,
    ResourceMonitorSpec,
    StdioSpec,
)
from torc_supervise.workflow.spec_slurm import (
    ActionSpec,
    FailureHandlerSpec,
    SlurmDefaults,
    SlurmSchedulerSpec,
)

SORT_METHODS = ("gpus_runtime_memory", "gpus_memory_runtime", "none")


def parse_runtime(text: str) -> float:
    """Seconds of an ISO 8601 duration that is longer than nothing."""
    seconds = duration.parse_duration(text)
    if not seconds:
        raise ValueError(f"{text.strip()!r} is no time at all; leave the runtime out for no limit")
    return seconds


NAME = Line("a name")
NAMES = ListOf(NAME, holes=True)
REGEXES = ListOf(Text("a regular expression"), holes=True)
MEMORY = Parsed(memory.parse_memory, "a memory size", "4g", pattern=memory.PATTERN)
DURATION = Parsed(parse_runtime, "an ISO 8601 duration", "PT1H30M", pattern=duration.PATTERN)
SIGNAL = Parsed(parse_signal, "a signal", "SIGTERM", numbers=True)
STDIO = Either(Choice(*STDIO_MODES), Section(StdioSpec), "a mode or a map with 'mode'")

_ENV_NAME = re.compile(r"[^=\x00]+")


class EnvValue(Shape):
    """Text, or a number taken exactly as it was written."""

    def read(self, node: Node, path: str, report: Report) -> Any:
        if (
            isinstance(node, Scalar)
            and isinstance(node.value, (int, float))
            and not isinstance(node.value, bool)
        ):
            return node.text
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            hint = f"write {quoted(node.text)}, in quotes" if isinstance(node, Scalar) and node.text else None
            report.error(node, path, f"expected text, got {describe(node)}", hint)
            return INVALID
        if "\0" in node.value:
            report.error(node, path, "a NUL byte is not allowed in the environment")
            return INVALID
        return node.value

    def schema(self) -> Schema:
        return {"type": ["string", "number"]}


def _refuse_env_name(name: str) -> str | None:
    if _ENV_NAME.fullmatch(name):
        return None
    return "the name of an environment variable cannot be empty or contain '=' or a NUL byte"


ENV = MapOf(EnvValue(), _refuse_env_name)
PARAMETERS = MapOf(ParameterValues(), refuse_parameter_name)


@record
class RequirementsFields(Record):
    """What a job needs of the machine, without a name."""

    noun: ClassVar[str] = "a map of requirements"

    num_cpus: int = entry(Whole(1), "CPUs that the job uses.", required=True)
    memory: int = entry(MEMORY, "Memory, for example 4g (binary units, whole numbers).", required=True)
    num_gpus: int = entry(Whole(), "GPUs that the job uses.", default=0)
    num_nodes: int = entry(Whole(1), "Nodes that the job spans.", default=1)
    runtime: float | None = entry(
        DURATION,
        "Longest time that the job may run, as ISO 8601 duration. Jobs that state it are ended when it is over.",
    )


@record
class InlineRequirements(RequirementsFields):
    """Requirements written in the job itself."""


@record
class RequirementsSpec(RequirementsFields):
    """An entry of resource_requirements, which jobs refer to by name."""

    name: str = entry(NAME, "How jobs refer to the entry; 'default' is reserved.", required=True)


@record
class Parameterised(Record):
    """What jobs and files have in common: one entry makes many."""

    parameters: Mapping[str, Values] | None = entry(
        PARAMETERS, "Values to make one item of each: ranges '1:100', lists '[a, b]', or native lists."
    )
    parameter_mode: str = entry(
        Choice("product", "zip"),
        "How several parameters combine: every combination, or element by element.",
        default="product",
    )
    use_parameters: tuple[str, ...] | None = entry(
        NAMES, "Names of the workflow's parameters to use. Without effect where 'parameters' is given."
    )


@record
class FileSpec(Parameterised):
    """A file that jobs read or write."""

    noun: ClassVar[str] = "a map with 'name' and 'path'"

    name: str = entry(NAME, "How jobs refer to the file.", required=True)
    path: str = entry(Line("a path"), "Path, relative to the working directory of the run.", required=True)


@record
class UserDataSpec(Record):
    """A JSON value that jobs read or write."""

    noun: ClassVar[str] = "a map with 'name' and 'data'"

    name: str | None = entry(NAME, "How jobs refer to the value. Nothing can use an entry without a name.")
    data: Any = entry(Json(), "Any JSON value.")
    is_ephemeral: bool = entry(
        Flag(), "Whether the value is dropped when the workflow restarts.", default=False
    )


def _names(what: str) -> Any:
    return entry(NAMES, what, default=())


def _regexes(what: str) -> Any:
    return entry(REGEXES, f"Regular expressions (searched, not anchored) for {what}.", default=())


@record
class JobSpec(Parameterised):
    """One command to run, or with parameters many."""

    noun: ClassVar[str] = "a map with 'name' and 'command'"

    name: str = entry(NAME, "Name of the job, unique in the workflow.", required=True)
    command: str = entry(Text("a command"), "Run as one string by 'bash -c'.", required=True)
    invocation_script: str | None = entry(Text("a script"), "Program that is given the command to run.")
    cancel_on_blocking_job_failure: bool = entry(
        Flag(), "Whether the job is canceled when a job that it waits for fails.", default=True
    )
    supports_termination: bool = entry(
        Flag(),
        "Whether the job saves its work on the termination signal. Other jobs are killed at once.",
        default=False,
    )
    termination_signal: str | None = entry(SIGNAL, "Signal for this job instead of the workflow's.")
    sigterm_lead_seconds: float | None = entry(
        Number(), "Seconds between the termination signal and SIGKILL, instead of the workflow's."
    )
    signal_scope: str = entry(
        Choice("group", "leader"),
        "Who gets the termination signal: the job's whole process group, or its first process only,"
        " for programs that pass signals on by themselves.",
        default="group",
    )
    isolation: str | None = entry(
        Choice(*ISOLATIONS),
        "Whether the job has a PID namespace of its own, which nothing outlives. Default: the workflow's.",
    )
    checkpoint: str | None = entry(
        Line("a path"), "Path of a file that the job replaces whenever it saves; results then say if it did."
    )
    resource_requirements: str | InlineRequirements | None = entry(
        Either(NAME, Section(InlineRequirements), "a name or a map of requirements"),
        "Name of an entry of resource_requirements, or the requirements themselves.",
    )
    failure_handler: str | None = entry(NAME, "Name of an entry of failure_handlers.")
    scheduler: str | None = entry(NAME, "Name of an entry of slurm_schedulers.")
    priority: int = entry(Whole(), "Jobs of higher priority start first.", default=0)
    env: Mapping[str, str] = entry(ENV, "Environment variables; they win over the workflow's.", default={})
    stdio: str | StdioSpec | None = entry(STDIO, "Where this job's output goes, instead of the workflow's.")
    depends_on: tuple[str, ...] = _names("Names of jobs that must complete first.")
    depends_on_regexes: tuple[str, ...] = _regexes("names of jobs that must complete first")
    input_files: tuple[str, ...] = _names(
        "Names of files that the job reads; it waits for the job that writes them."
    )
    input_file_regexes: tuple[str, ...] = _regexes("names of files that the job reads")
    output_files: tuple[str, ...] = _names("Names of files that the job writes.")
    output_file_regexes: tuple[str, ...] = _regexes("names of files that the job writes")
    input_user_data: tuple[str, ...] = _names("Names of user_data that the job reads.")
    input_user_data_regexes: tuple[str, ...] = _regexes("names of user_data that the job reads")
    output_user_data: tuple[str, ...] = _names("Names of user_data that the job writes.")
    output_user_data_regexes: tuple[str, ...] = _regexes("names of user_data that the job writes")


@record
class WorkflowSpec(Record):
    """A workflow: jobs, what they need, and how they depend on each other."""

    name: str = entry(NAME, "Name of the workflow.", required=True)
    jobs: tuple[JobSpec, ...] = entry(
        ListOf(Section(JobSpec), keep=True), "Commands to run, in any order.", required=True
    )
    user: str | None = entry(Line("a user name"), "Accepted, but the user who runs the program is recorded.")
    description: str | None = entry(Text("text", empty=True), "What the workflow is for.")
    project: str | None = entry(Line("text"), "Project that the workflow belongs to.")
    metadata: str | Mapping[str, Any] | None = entry(
        Either(Text("text", empty=True), MapOf(Json()), "text or a map"),
        "Free data of your own, kept as it is.",
    )
    parameters: Mapping[str, Values] | None = entry(
        PARAMETERS, "Parameters that jobs and files take up by 'use_parameters'."
    )
    env: Mapping[str, str] = entry(ENV, "Environment variables for every job.", default={})
    files: tuple[FileSpec, ...] = entry(
        ListOf(Section(FileSpec), keep=True), "Files that jobs read or write.", default=()
    )
    user_data: tuple[UserDataSpec, ...] = entry(
        ListOf(Section(UserDataSpec), keep=True), "JSON values that jobs read or write.", default=()
    )
    resource_requirements: tuple[RequirementsSpec, ...] = entry(
        ListOf(Section(RequirementsSpec), keep=True), "Named requirements for jobs to refer to.", default=()
    )
    failure_handlers: tuple[FailureHandlerSpec, ...] = entry(
        ListOf(Section(FailureHandlerSpec), keep=True), "What to do when a job fails.", default=()
    )
    slurm_schedulers: tuple[SlurmSchedulerSpec, ...] = entry(
        ListOf(Section(SlurmSchedulerSpec), keep=True), "Slurm allocations to ask for.", default=()
    )
    slurm_defaults: Mapping[str, Any] = entry(
        SlurmDefaults(),
        "sbatch options (long names, no dashes) for every slurm_schedulers entry.",
        default={},
    )
    actions: tuple[ActionSpec, ...] = entry(
        ListOf(Section(ActionSpec), keep=True), "What to do when something happens.", default=()
    )
    resource_monitor: ResourceMonitorSpec | None = entry(
        Section(ResourceMonitorSpec), "Whether and how often the jobs' use of resources is measured."
    )
    execution_config: ExecutionConfigSpec | None = entry(
        Section(ExecutionConfigSpec), "How jobs are started, limited and ended."
    )
    jobs_sort_method: str = entry(
        Choice(*SORT_METHODS), "Which ready jobs start first, after 'priority'.", default=SORT_METHODS[0]
    )
    use_pending_failed: bool = entry(
        Flag(), "Whether failed jobs that no failure handler matches wait for a decision.", default=False
    )
    compute_node_expiration_buffer_seconds: int | None = entry(
        Whole(), "Seconds before the allocation's end at which Torc stops. Use execution_config instead."
    )
    compute_node_wait_for_new_jobs_seconds: int | None = entry(
        Whole(), "Seconds that an idle worker waits for new jobs."
    )
    compute_node_ignore_workflow_completion: bool = entry(
        Flag(), "Whether a worker stays when the workflow is complete.", default=False
    )
    compute_node_wait_for_healthy_database_minutes: int | None = entry(
        Whole(), "Minutes that a worker waits for an unreachable server."
    )
    compute_node_min_time_for_new_jobs_seconds: int | None = entry(
        Whole(), "Seconds that must be left for a worker to start a job."
    )


def read_spec(root: Node, report: Report) -> WorkflowSpec:
    """The declared fields of a file's top level; every mistake goes into the report."""
    return cast(WorkflowSpec, Section(WorkflowSpec).read(root, "", report))
