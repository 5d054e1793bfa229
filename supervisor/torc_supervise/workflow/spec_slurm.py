"""The fields of slurm_schedulers, slurm_defaults, actions and failure_handlers."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from torc_supervise.workflow import walltime
from torc_supervise.workflow.containers import Json, ListOf, join, report_repeated
from torc_supervise.workflow.nodes import Mapping, Node, Scalar, Sequence, describe, is_null
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.records import Record, Section, entry, record
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.sbatch import OURS, long_name, parse_options
from torc_supervise.workflow.shapes import INVALID, Choice, Flag, Line, Parsed, Schema, Shape, Text, Whole
from torc_supervise.workflow.signals import parse_signal_spec
from torc_supervise.workflow.spec_execution import SIGNAL_SPEC

TRIGGERS = (
    "on_workflow_start", "on_workflow_complete", "on_jobs_ready", "on_jobs_complete",
    "on_worker_start", "on_worker_complete",
)  # fmt: skip
ACTIONS = ("run_commands", "schedule_nodes")
FORBIDDEN_DEFAULTS = ("partition", "nodes", "walltime", "time", "mem", "gres", "name", "job-name")

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def parse_walltime_text(text: str) -> str:
    """The text itself, if it is a Slurm time."""
    walltime.parse_walltime(text)
    return text.strip()


def parse_extra(text: str) -> str:
    """A line of sbatch options; a --signal among them must be one that Slurm takes."""
    if any(character < " " for character in text):
        raise ValueError("a control character or line break is not allowed in a line of sbatch options")
    for option in parse_options(text):
        if option.name == "signal":
            parse_signal_spec(option.value or "")
    return text


class SlurmDefaults(Shape):
    """A map of sbatch options to scalars."""

    def read(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node, Mapping):
            report.error(node, path, f"expected a map of sbatch options, got {describe(node)}")
            return INVALID
        report_repeated(node, path, report)
        for key, value in node.entries.items():
            self._check(key, node.keys[key], value, join(path, key), report)
        return {
            key: value.value
            for key, value in node.entries.items()
            if isinstance(value, Scalar) and not is_null(value)
        }

    def _check(self, key: str, key_node: Node, value: Node, path: str, report: Report) -> None:
        option = key.lower().replace("_", "-")
        if option in FORBIDDEN_DEFAULTS:
            way_out = "remove it" if "name" in option else "set it in the slurm_schedulers entry"
            report.error(key_node, path, f"{quoted(key)} cannot be a default, torc manages it", way_out)
        elif not _OPTION.fullmatch(key):
            hint = f"write {quoted(key.lstrip('-'))}" if _OPTION.fullmatch(key.lstrip("-")) else None
            report.error(key_node, path, f"{quoted(key)} is not the long name of an sbatch option", hint)
        elif (reason := OURS.get(long_name(option))) is not None:
            report.error(key_node, path, f"{quoted(key)} cannot be given: {reason}", "remove it")
        elif isinstance(value, Mapping | Sequence):
            report.error(value, path, f"expected text, a number or true/false, got {describe(value)}")
        elif option == "signal" and not is_null(value):
            SIGNAL_SPEC.read(value, path, report)
        elif isinstance(value, Scalar) and isinstance(value.value, str):
            Line("an sbatch option", empty=True).read(value, path, report)
        else:
            Json().read(value, path, report)  # refuses the numbers that no file of ours can hold

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}


@record
class SlurmSchedulerSpec(Record):
    """One kind of Slurm allocation."""

    noun: ClassVar[str] = "a map with 'name' and 'account'"

    account: str = entry(Line("an account"), "Account to charge.", required=True)
    name: str | None = entry(Line("a name"), "How jobs and actions refer to it.")
    nodes: int = entry(Whole(1), "Nodes of an allocation.", default=1)
    walltime: str = entry(
        Parsed(parse_walltime_text, "a Slurm time", "04:00:00", pattern=walltime.PATTERN, numbers=True),
        "Length of an allocation as Slurm reads it: 30 is minutes, 04:00:00 hours, 1-12 a day and twelve hours.",
        default="01:00:00",
    )
    partition: str | None = entry(Line("a partition"), "Partition to ask for.")
    qos: str | None = entry(Line("a QOS"), "Quality of service to ask for.")
    mem: str | None = entry(Line("memory"), "Memory per node, as sbatch takes it.")
    gres: str | None = entry(Line("generic resources"), "Generic resources, for example gpu:2.")
    tmp: str | None = entry(Line("a size"), "Temporary disk space per node, as sbatch takes it.")
    ntasks_per_node: int | None = entry(Whole(1), "Tasks per node.")
    serialize_allocations: bool = entry(Flag(), "Whether allocations run one after the other.", default=False)
    extra: str | None = entry(
        Parsed(parse_extra, "a line of sbatch options", "--signal=B:TERM@300"),
        "More sbatch options, as one line.",
    )


@record
class ActionSpec(Record):
    """Commands to run or nodes to schedule when something happens."""

    noun: ClassVar[str] = "a map with 'trigger_type' and 'action_type'"

    trigger_type: str = entry(Choice(*TRIGGERS), "When the action is due.", required=True)
    action_type: str = entry(Choice(*ACTIONS), "What the action does.", required=True)
    jobs: tuple[str, ...] = entry(
        ListOf(Line("a name"), holes=True), "Jobs that on_jobs_* triggers look at.", default=()
    )
    job_name_regexes: tuple[str, ...] = entry(
        ListOf(Text("a regular expression"), holes=True), "Regular expressions for such jobs.", default=()
    )
    commands: tuple[str, ...] = entry(ListOf(Text("a command")), "Commands of run_commands.", default=())
    scheduler: str | None = entry(Line("a name"), "slurm_schedulers entry that schedule_nodes uses.")
    scheduler_type: str | None = entry(
        Choice("slurm", "local"), "Kind of scheduler that schedule_nodes uses."
    )
    num_allocations: int = entry(Whole(1), "Allocations that schedule_nodes asks for.", default=1)
    start_one_worker_per_node: bool = entry(
        Flag(), "Whether each node gets a worker of its own.", default=False
    )
    max_parallel_jobs: int | None = entry(Whole(1), "Jobs that a worker runs at once.")
    persistent: bool = entry(Flag(), "Whether the action may happen more than once.", default=False)


@record
class RuleSpec(Record):
    """What to do on some exit codes."""

    noun: ClassVar[str] = "a map with 'exit_codes'"

    exit_codes: tuple[int, ...] = entry(
        ListOf(Whole(-128, 255)), "Return codes that the rule is for.", default=()
    )
    match_all_exit_codes: bool = entry(Flag(), "Whether the rule is for every code but 0.", default=False)
    recovery_script: str | None = entry(Text("a script"), "Run by 'bash -c' before the job is tried again.")
    max_retries: int = entry(Whole(), "How often the job is tried again.", default=3)


@record
class FailureHandlerSpec(Record):
    """Rules for failed jobs."""

    noun: ClassVar[str] = "a map with 'name' and 'rules'"

    name: str = entry(Line("a name"), "How jobs refer to the handler.", required=True)
    rules: tuple[RuleSpec, ...] = entry(
        ListOf(Section(RuleSpec), keep=True), "The first rule that matches counts.", required=True
    )


def check_rules(handlers: tuple[FailureHandlerSpec, ...], report: Report) -> None:
    """Report rules that can never match."""
    for handler in handlers:
        for rule in handler.rules:
            if rule.broken.keys() & {"exit_codes", "match_all_exit_codes"}:
                continue
            if not rule.exit_codes and not rule.match_all_exit_codes and not rule.states("exit_codes"):
                hint = "give exit_codes or match_all_exit_codes: true"
                report.error(rule.origin, rule.where, "the rule matches no exit code", hint)
