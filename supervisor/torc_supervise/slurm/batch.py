"""The batch script of one allocation: #SBATCH lines, then the supervisor takes the shell's place by ``exec``.

``exec`` makes the supervisor the batch process, so that what Slurm sends there reaches it: ``--signal=B:...``, scancel,
the time limit.  The script is kept where the user can read it, and says all that the next command must know about it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator

from msgspec import Struct

from torc_supervise.errors import TorcError
from torc_supervise.slurm.options import AllocationOptions, allocation_options
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.sbatch import SbatchOption
from torc_supervise.workflow.schedulers import SlurmScheduler

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)
_NAME_SHOWN = 40  # characters of the workflow's name in the job's
_MARK = "# torc-supervise: "


class RunSettings(Struct, frozen=True):
    """What the supervisor in the allocation is told, beside the workflow's id."""

    auto_resubmit: int = 0
    max_parallel_jobs: int | None = None
    force: bool = False


class BatchScript(Struct, frozen=True):
    """A script that is to be submitted.  ``name``: of the Slurm job, unique to this script."""

    path: str
    name: str
    scheduler: str
    text: str
    options: AllocationOptions
    settings: RunSettings


class ScriptFacts(Struct, frozen=True):
    """What an existing script says about itself."""

    path: str
    name: str
    scheduler: str
    auto_resubmit: int
    clusters: str | None = None


def write_script(
    workflow: Workflow,
    files: WorkflowFiles,
    directory: str,
    scheduler: SlurmScheduler,
    jobs: Iterable[Job],
    settings: RunSettings,
) -> BatchScript:
    """Write the script under the next free number.  An existing one is never overwritten.

    Args:
        directory: where the workflow was submitted; absolute.
        jobs: those that are to run in this allocation.

    Raises:
        TorcError: it cannot be written, or a path has characters that a batch script cannot hold.
    """
    number = len(existing_scripts(files)) + 1
    while True:
        script = make_script(workflow, files, directory, scheduler, jobs, settings, number)
        try:
            descriptor = os.open(script.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise TorcError(f"cannot write the batch script {script.path}: {error.strerror}") from error
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(script.text)
        return script


def make_script(
    workflow: Workflow,
    files: WorkflowFiles,
    directory: str,
    scheduler: SlurmScheduler,
    jobs: Iterable[Job],
    settings: RunSettings,
    number: int = 1,
) -> BatchScript:
    """As :func:`write_script`, without writing it."""
    options = allocation_options(workflow, scheduler, jobs)
    path = files.batch_script(number)
    shown = re.sub(r"[^A-Za-z0-9._-]+", "_", workflow.name, flags=re.ASCII)[:_NAME_SHOWN].strip("_.")
    # The last part makes it the only one of that name: by it a job is found whose id nobody could write down.
    name = "_".join(filter(None, (f"torc_wf{files.workflow_id}_{number}", shown, os.urandom(4).hex())))
    facts = {"name": name, "scheduler": scheduler.name, "auto_resubmit": settings.auto_resubmit}
    if (clusters := options.value("clusters")) is not None:
        facts["clusters"] = clusters
    lines = [
        "#!/bin/bash",
        f"# An allocation of '{scheduler.name}' for workflow {files.workflow_id} '{workflow.name}'.",
        *(_line(option, options) for option in (*_ours(files, directory, name, options), *options.options)),
        _MARK + json.dumps(facts),
        "",
        *_EARLY_SIGNALS,
        f"exec {_command(files, scheduler.name, options.warned_by, settings)}",
        "",
    ]
    return BatchScript(path, name, scheduler.name, "\n".join(lines), options, settings)


# Slurm's warning may come up to 60 s early, in a short allocation before Python has begun, and would end it.  Ignored
# until the supervisor listens, it is lost; but the supervisor knows the end of its allocation and acts by itself.
# HUP is not among them: the supervisor would take it for nohup's.
# Test: test_batch.py::test_an_early_signal_does_not_end_it.
_EARLY_SIGNALS = ("trap '' TERM INT USR1 USR2  # until the supervisor listens; it knows the end by itself",)


def existing_scripts(files: WorkflowFiles) -> list[str]:
    """Paths of the batch scripts that were written for a workflow, oldest first."""
    pattern = re.compile(rf"slurm_wf{files.workflow_id}_(\d+)\.sh", re.ASCII)
    try:
        names = os.listdir(files.directory)
    except OSError:
        return []
    numbers = sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
    return [files.batch_script(number) for number in numbers]


def read_facts(path: str) -> ScriptFacts | None:
    """What a script says about itself; None if it cannot be read, or somebody made another one of it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            marked = next((line for line in file if line.startswith(_MARK)), None)
        if marked is None:
            return None
        facts = json.loads(marked.removeprefix(_MARK))
        return ScriptFacts(
            path, facts["name"], facts["scheduler"], facts["auto_resubmit"], facts.get("clusters")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ours(
    files: WorkflowFiles, directory: str, name: str, options: AllocationOptions
) -> Iterator[SbatchOption]:
    yield SbatchOption("job-name", name)
    yield SbatchOption("chdir", directory)
    yield SbatchOption("output", _pattern(files, "o"))
    yield SbatchOption("error", _pattern(files, "e"))
    if not options.states("open-mode"):
        yield SbatchOption("open-mode", "append")  # a job that Slurm requeues goes on in the same files


def _pattern(files: WorkflowFiles, suffix: str) -> str:
    """Slurm puts the job's id in place of %j; %% is a plain percent sign, and a backslash switches all of that off."""
    if "\\" in files.output:
        raise TorcError(
            f"the output directory {files.output} has a backslash in its name, which switches off the %j of --output",
            "choose another one with --output-dir",
        )
    directory = files.output.replace("%", "%%")
    return os.path.join(directory, os.path.basename(files.batch_output("%j", suffix)))


def _line(option: SbatchOption, options: AllocationOptions) -> str:
    line = f"#SBATCH {_quoted(option)}"
    return f"{line}  # as much as the largest job needs" if option.name in options.implied else line


def _quoted(option: SbatchOption) -> str:
    """As sbatch reads its #SBATCH lines: a backslash means the next character itself, in all quotes and without."""
    word = option.word
    if any(character < " " or character == "\x7f" for character in word):
        raise TorcError(
            f"a batch script cannot hold the line break or control character in {word!r}",
            "rename that directory",
        )
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _command(files: WorkflowFiles, scheduler: str, warned_by: str | None, settings: RunSettings) -> str:
    words = [sys.executable, "-P", "-m", "torc_supervise_cli", "run", str(files.workflow_id)]
    words += ["--output-dir", files.output, "--scheduler", scheduler]
    if warned_by is not None:
        words += ["--warned-by", warned_by]
    words += ["--auto-resubmit", str(settings.auto_resubmit)]
    if settings.max_parallel_jobs is not None:
        words += ["--max-parallel-jobs", str(settings.max_parallel_jobs)]
    if settings.force:
        words.append("--force")
    return shlex.join(words)
