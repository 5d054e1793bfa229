"""Parameterised jobs and files to the jobs and files that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from torc_supervise.workflow.containers import HOLE
from torc_supervise.workflow.nodes import Mapping as MappingNode
from torc_supervise.workflow.parameters import (
    MAX_COMBINATIONS,
    Mode,
    Value,
    Values,
    combinations,
    count_combinations,
)
from torc_supervise.workflow.problems import did_you_mean, quoted
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.shapes import Line
from torc_supervise.workflow.spec import FileSpec, JobSpec, Parameterised, WorkflowSpec
from torc_supervise.workflow.templates import compile_template, token_pattern

LINK_FIELDS = (
    "depends_on", "depends_on_regexes",
    "input_files", "input_file_regexes", "output_files", "output_file_regexes",
    "input_user_data", "input_user_data_regexes", "output_user_data", "output_user_data_regexes",
)  # fmt: skip

Links = tuple[tuple[str, ...], ...]  # one tuple of names or patterns for each of LINK_FIELDS
Build = Callable[[Sequence[Value]], Any]

_NAME = Line("a name")


class ExpandedJob(Struct):
    """A job after parameter substitution, its references still names.

    Jobs of one spec share every part that has no token: ``links`` and ``env`` are then the same objects.
    """

    spec: JobSpec
    name: str  # empty where it could not be read or the parameters could not
    command: str
    invocation_script: str | None
    requirements: str | None  # name of an entry; inline requirements stay in the spec
    scheduler: str | None
    checkpoint: str | None
    env: Mapping[str, str]
    links: Links

    @property
    def title(self) -> str:
        """What to call the job in messages."""
        return self.name or self.spec.name or self.spec.where


class ExpandedFile(Struct):
    """A file after parameter substitution."""

    spec: FileSpec
    name: str
    path: str


class Expansion:
    """Expands the items of one workflow.

    ``failed`` has the items that could not be expanded: names that seem unknown may be theirs.
    """

    def __init__(self, workflow: WorkflowSpec, report: Report) -> None:
        self.shared = workflow.parameters or {}
        self.shared_broken = workflow.broken.get("parameters")
        self.report = report
        self.left = MAX_COMBINATIONS
        self.failed: list[Parameterised] = []

    def jobs(self, specs: Sequence[JobSpec]) -> list[ExpandedJob]:
        """All jobs in file order; one that could not be expanded stands for itself, without a name."""
        jobs: list[ExpandedJob] = []
        for spec in specs:
            made = self._items(spec, "job", _job_builder)
            jobs.extend([_without_tokens(spec)] if made is None else made)
        return jobs

    def files(self, specs: Sequence[FileSpec]) -> list[ExpandedFile]:
        """All files in file order."""
        return [file for spec in specs for file in self._items(spec, "file", _file_builder) or ()]

    def _items(
        self, spec: Any, noun: str, builder: Callable[[Any, Sequence[str]], Build]
    ) -> Iterator[Any] | None:
        """What an item stands for; None where its parameters have mistakes."""
        parameters = self._parameters_of(spec)
        mode = cast(Mode, spec.parameter_mode)
        if parameters is None or (parameters and not self._affordable(spec, noun, parameters, mode)):
            self.failed.append(spec)
            return None
        build = builder(spec, tuple(parameters))
        if not parameters:
            return iter((build(()),))
        self.report.swept.add(spec.where)
        return self._made(spec, build, parameters, mode)

    def _made(self, spec: Any, build: Build, parameters: Mapping[str, Values], mode: Mode) -> Iterator[Any]:
        for values in combinations(parameters, mode):
            item = build(values)
            if not item.name.isprintable() or not item.name.strip():
                self._check_line(_NAME, item.name, spec, "name")
            yield item

    def _parameters_of(self, spec: Parameterised) -> Mapping[str, Values] | None:
        """The parameters that apply to an item: its own, else the workflow's that it names; None on an error."""
        valid = not spec.broken.keys() & {"parameters", "parameter_mode"}
        if spec.states("parameters"):
            return (spec.parameters or {}) if valid else None
        chosen: dict[str, Values] = {}
        valid = valid and "use_parameters" not in spec.broken
        for index, name in enumerate(spec.use_parameters or ()):
            if name in self.shared:
                chosen[name] = self.shared[name]
                continue
            valid = False
            if name is HOLE or self._may_be_shared(name):
                continue
            hint = did_you_mean(name, self.shared) or "declare it in the workflow's 'parameters'"
            self.report.error(*spec.at("use_parameters", index), f"no parameter named {quoted(name)}", hint)
        return chosen if valid else None

    def _may_be_shared(self, name: str) -> bool:
        """Whether the workflow declares the parameter, but not so that it could be read."""
        node = self.shared_broken
        return node is not None and (not isinstance(node, MappingNode) or name in node.entries)

    def _affordable(
        self, spec: JobSpec | FileSpec, noun: str, parameters: Mapping[str, Values], mode: Mode
    ) -> bool:
        """Whether the item can be expanded; counted before anything is built."""
        field = "parameters" if spec.states("parameters") else "use_parameters"
        title = f"{noun} {quoted(spec.name)}"
        try:
            count = count_combinations(parameters, mode)
        except ValueError as error:
            self.report.error(*spec.at("parameter_mode"), f"Failed to expand {title}: {error}")
            return False
        if count > self.left:
            message = f"{title} expands to {count:,} {noun}s; at most {MAX_COMBINATIONS:,} are allowed in all"
            self.report.error(*spec.at(field), message, "use fewer or shorter parameters")
            return False
        if count == 0:
            empty = [name for name, values in parameters.items() if not values]
            message = f"{title} makes no {noun}s: the parameter {quoted(empty[0])} has no values"
            self.report.warn(*spec.at(field), message)
        self.left -= count
        return True

    def _check_line(self, shape: Line, text: str, spec: Parameterised, field: str) -> None:
        problem = shape.refuse(text)
        if problem is not None:
            self.report.error(*spec.at(field), f"after substitution: {problem}")


def _job_builder(spec: JobSpec, names: Sequence[str]) -> Build:
    named = spec.resource_requirements if isinstance(spec.resource_requirements, str) else None
    links: Links = tuple(getattr(spec, field) for field in LINK_FIELDS)
    plain = ExpandedJob(
        spec,
        spec.name,
        spec.command,
        spec.invocation_script,
        named,
        spec.scheduler,
        spec.checkpoint,
        spec.env,
        links,
    )
    if not names:
        return lambda values: plain
    tokens = token_pattern(names)

    def substitute(text: str | None) -> Build:
        render = None if text is None else compile_template(text, names, tokens)
        return render if render is not None else lambda values: text

    name, command = substitute(plain.name), substitute(plain.command)
    script, requirements = substitute(plain.invocation_script), substitute(plain.requirements)
    scheduler, checkpoint = substitute(plain.scheduler), substitute(plain.checkpoint)
    env = _map_template(spec.env, names) or (lambda values: plain.env)
    all_links = _links_template(links, names) or (lambda values: links)
    return lambda values: ExpandedJob(
        spec, name(values), command(values), script(values), requirements(values), scheduler(values),
        checkpoint(values), env(values), all_links(values),
    )  # fmt: skip


def _without_tokens(spec: JobSpec) -> ExpandedJob:
    """What holds of a job whatever its parameters are: all that has no token."""

    def plain(text: Any) -> str | None:
        return text if isinstance(text, str) and "{" not in text else None

    links = tuple(tuple(plain(text) or HOLE for text in getattr(spec, field)) for field in LINK_FIELDS)
    requirements, scheduler = plain(spec.resource_requirements), plain(spec.scheduler)
    return ExpandedJob(
        spec, "", spec.command, spec.invocation_script, requirements, scheduler, None, {}, links
    )


def _map_template(env: Mapping[str, str], names: Sequence[str]) -> Build | None:
    tokens = token_pattern(names)
    found = {
        key: render
        for key, text in env.items()
        if (render := compile_template(text, names, tokens)) is not None
    }
    if not found:
        return None
    return lambda values: {**env, **{key: render(values) for key, render in found.items()}}


def _links_template(links: Links, names: Sequence[str]) -> Build | None:
    tokens = token_pattern(names)
    templates = [_tuple_template(items, names, tokens) for items in links]
    if not any(templates):
        return None
    return lambda values: tuple(
        render(values) if render is not None else items
        for items, render in zip(links, templates, strict=True)
    )


def _tuple_template(items: tuple[str, ...], names: Sequence[str], tokens: Any) -> Build | None:
    found = [compile_template(text, names, tokens) for text in items]
    if not any(found):
        return None
    pairs = list(zip(items, found, strict=True))
    return lambda values: tuple(text if render is None else render(values) for text, render in pairs)


def _file_builder(spec: FileSpec, names: Sequence[str]) -> Build:
    if not names:
        return lambda values: ExpandedFile(spec, spec.name, spec.path)
    tokens = token_pattern(names)
    name = compile_template(spec.name, names, tokens)
    path = compile_template(spec.path, names, tokens)
    return lambda values: ExpandedFile(
        spec, spec.name if name is None else name(values), spec.path if path is None else path(values)
    )
