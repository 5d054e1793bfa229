"""Names in jobs to what they stand for: dependencies, files, user_data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from torc_supervise.workflow.containers import HOLE
from torc_supervise.workflow.doubt import Doubt
from torc_supervise.workflow.expand import LINK_FIELDS, ExpandedJob
from torc_supervise.workflow.names import NameIndex
from torc_supervise.workflow.problems import quoted
from torc_supervise.workflow.records import Record
from torc_supervise.workflow.report import Report
from torc_supervise.workflow.variables import Variables

MAX_DEPENDENCIES = 10_000_000

# Field of exact names, field of patterns, what they name.
_CLASSES = (
    ("input_files", "input_file_regexes", "file"),
    ("output_files", "output_file_regexes", "file"),
    ("input_user_data", "input_user_data_regexes", "user_data"),
    ("output_user_data", "output_user_data_regexes", "user_data"),
)


class ResolvedJob(Struct):
    """A job with its references resolved; positions count from 0."""

    job: ExpandedJob
    command: str
    invocation_script: str | None
    uses: Mapping[
        str, tuple[str, ...]
    ]  # input_files, output_files, input_user_data, output_user_data -> names
    depends_on: tuple[int, ...] = ()


class _Resolved(Struct, frozen=True):
    """What one set of links stands for, before the job's own variables are added."""

    depends_on: frozenset[int]
    ordered: tuple[int, ...]  # the same, sorted: shared by all jobs that add nothing of their own
    named: frozenset[int]  # those of them that are written out; a pattern never makes a job wait for itself
    alone: Mapping[int, int]  # position of a job that is all that a pattern matches -> number of the pattern
    uses: Mapping[str, tuple[str, ...]]


class References:
    """Resolves the references of all jobs of a workflow.

    Args:
        jobs: all jobs after expansion.
        files, user_data: path and value by name.
        report: where unknown names go.
        doubts: what entries with mistakes may be called, by kind; such names are not reported as unknown.
    """

    def __init__(
        self,
        jobs: Sequence[ExpandedJob],
        files: Mapping[str, str],
        user_data: Mapping[str, Any],
        report: Report,
        doubts: Mapping[str, Doubt],
    ) -> None:
        self.jobs = jobs
        self.report = report
        self.doubts = doubts
        self.variables = Variables(files, user_data)
        self.index = {
            "job": NameIndex("job", (job.name for job in jobs)),
            "file": NameIndex("file", files),
            "user_data": NameIndex("user_data", user_data),
        }
        self._shared: dict[
            int, _Resolved
        ] = {}  # id of a links tuple -> result; the jobs keep the tuples alive

    def resolve(self) -> list[ResolvedJob]:
        """All jobs, in order, with dependencies written, matched and implied by files and user_data."""
        resolved: list[ResolvedJob] = []
        links: list[_Resolved] = []
        for job in self.jobs:
            found = self._resolve_links(job)
            links.append(found)
            resolved.append(self._substitute(job, found))
        producers = self._producers(resolved)
        total = 0
        for position, (item, found) in enumerate(zip(resolved, links, strict=True)):
            item.depends_on = self._dependencies(position, item, found, producers)
            total += len(item.depends_on)
            if total > MAX_DEPENDENCIES:
                message = f"the jobs have more than {MAX_DEPENDENCIES:,} dependencies in all"
                hint = "put one job in between that waits for all of them"
                self.report.error(*item.job.spec.at("name"), message, hint)
                break
        return resolved

    def find(self, kind: str, names: Iterable[str], spec: Record, field: str) -> list[str]:
        """Those of the names that exist; the others are reported at their place in ``field``."""
        index = self.index[kind]
        good: list[str] = []
        for number, name in enumerate(names):
            if name in index:
                good.append(name)
            elif name is not HOLE and not self.doubts[kind].may_be(name):
                self.report.error(
                    *spec.at(field, number),
                    f"no {kind} named {quoted(name)}",
                    partial(index.suggestion, name),
                )
        return good

    def match(self, kind: str, patterns: Iterable[str], spec: Record, field: str) -> list[tuple[str, ...]]:
        """The names that each pattern finds; patterns that find none are reported."""
        good: list[tuple[str, ...]] = []
        for number, pattern in enumerate(patterns):
            if pattern is HOLE:
                good.append(())
                continue
            try:
                found = self.index[kind].matching(pattern)
            except ValueError as error:
                self.report.error(*spec.at(field, number), f"{quoted(pattern)} is {error}")
                found = ()
            else:
                if not found and not self.doubts[kind].may_match(pattern):
                    self.report.error(*spec.at(field, number), f"{quoted(pattern)} matches no {kind}")
            good.append(found)
        return good

    def _resolve_links(self, job: ExpandedJob) -> _Resolved:
        shared = self._shared.get(id(job.links))
        if shared is not None:
            return shared
        fields: dict[str, tuple[str, ...]] = dict(zip(LINK_FIELDS, job.links, strict=True))
        positions = self.index["job"].positions
        named = frozenset(
            positions[name] for name in self.find("job", fields["depends_on"], job.spec, "depends_on")
        )
        matches = self.match("job", fields["depends_on_regexes"], job.spec, "depends_on_regexes")
        alone = {positions[names[0]]: number for number, names in enumerate(matches) if len(names) == 1}
        depends_on = named.union(positions[name] for names in matches for name in names)
        uses: dict[str, tuple[str, ...]] = {}
        for exact, regexes, kind in _CLASSES:
            if fields[exact] or fields[regexes]:
                names = self.find(kind, fields[exact], job.spec, exact)
                for matched in self.match(kind, fields[regexes], job.spec, regexes):
                    names.extend(matched)
                uses[exact] = tuple(dict.fromkeys(names))
        found = _Resolved(depends_on, tuple(sorted(depends_on)), named, alone, uses)
        self._shared[id(job.links)] = found
        return found

    def _substitute(self, job: ExpandedJob, found: _Resolved) -> ResolvedJob:
        used: dict[str, list[str]] = {}
        command = self._variables_of(job, "command", job.command, used)
        script = job.invocation_script
        if script is not None:
            script = self._variables_of(job, "invocation_script", script, used)
        uses = found.uses
        if used:
            fields = [exact for exact, _, _ in _CLASSES]
            uses = {
                field: tuple(dict.fromkeys((*found.uses.get(field, ()), *used.get(field, ()))))
                for field in fields
                if field in used or field in found.uses
            }
        return ResolvedJob(job, command, script, uses)

    def _variables_of(self, job: ExpandedJob, field: str, text: str, used: dict[str, list[str]]) -> str:
        def complain(number: int, written: str, kind: str, name: str) -> None:
            index = self.index["file" if kind == "files" else kind]
            if not name:
                message = f"{quoted(written)} is not a variable"
                hint = f"write ${{{kind}.input.NAME}} or ${{{kind}.output.NAME}}"
                self.report.error(*job.spec.at(field), message, hint, part=number)
            elif not self.doubts[index.noun].may_be(name):
                message = f"{quoted(written)}: no {index.noun} named {quoted(name)}"
                self.report.error(*job.spec.at(field), message, partial(index.suggestion, name), part=number)

        return self.variables.substitute(text, used, complain)

    def _producers(self, resolved: Sequence[ResolvedJob]) -> dict[str, dict[str, list[int]]]:
        """Positions of the jobs that write each file and each user_data item."""
        producers: dict[str, dict[str, list[int]]] = {"files": {}, "user_data": {}}
        for position, item in enumerate(resolved):
            for kind, writers in producers.items():
                for name in item.uses.get(f"output_{kind}", ()):
                    writers.setdefault(name, []).append(position)
        for name, positions in producers["files"].items():
            first = resolved[positions[0]]
            for position in positions[1:]:
                self._report_second_writer(name, first, resolved[position])
        return producers

    def _report_second_writer(self, file: str, first: ResolvedJob, second: ResolvedJob) -> None:
        job = second.job
        written = job.links[LINK_FIELDS.index("output_files")]
        if file in written:
            place = job.spec.at("output_files", written.index(file))
        else:
            place = job.spec.at("output_file_regexes" if job.spec.output_file_regexes else "command")
        message = f"the file {quoted(file)} is written by two jobs, {quoted(first.job.title)} and {quoted(job.title)}"
        number = second.uses["output_files"].index(file)
        self.report.error(*place, message, "give each of them a file of its own", part=number)

    def _dependencies(
        self,
        position: int,
        item: ResolvedJob,
        found: _Resolved,
        producers: Mapping[str, Mapping[str, list[int]]],
    ) -> tuple[int, ...]:
        implied: set[int] = set()
        for kind, writers in producers.items():
            for name in item.uses.get(f"input_{kind}", ()):
                implied.update(writers.get(name, ()))
        itself = position in found.depends_on and position not in found.named
        number = found.alone.get(position) if itself else None
        if number is not None and not self.doubts["job"].may_match(item.job.links[1][number]):
            node, path = item.job.spec.at("depends_on_regexes", number)
            message = f"the pattern matches no job but {quoted(item.job.name)} itself"
            self.report.error(node, path, message, "a job cannot wait for itself")
        if not implied and not itself:
            return found.ordered
        depends_on = found.depends_on - {position} if itself else found.depends_on
        return tuple(sorted(depends_on | implied))
