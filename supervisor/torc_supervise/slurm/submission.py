"""Submitting a batch script, once: sbatch, its answer, and what to do when the answer does not come.

Race: sbatch is killed, or gives up, after slurmctld has taken the job and before its id is known.  Submitting again
would queue a second one.  Each script's job has a name of its own, so before another try, and before the next
submission for the workflow, Slurm is asked for a job of that name.
Test: test_submission.py::test_a_job_that_was_queued_unseen_is_found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from msgspec import Struct

from torc_supervise.slurm import jobs
from torc_supervise.slurm.batch import BatchScript
from torc_supervise.slurm.commands import (
    PAUSE_BETWEEN_TRIES,
    SUBMIT_TRIES,
    SlurmRefused,
    SlurmUnreachable,
    patiently,
    run,
)

_ANSWER = re.compile(r"(\d+)(?:;(\S+))?", re.ASCII)

# Variables that would win over the script's lines, by the option of theirs that the script has.
_VARIABLES = {
    "account": "SBATCH_ACCOUNT",
    "partition": "SBATCH_PARTITION",
    "qos": "SBATCH_QOS",
    "time": "SBATCH_TIMELIMIT",
    "mem": "SBATCH_MEM_PER_NODE",
    "mem-per-cpu": "SBATCH_MEM_PER_CPU",
    "gres": "SBATCH_GRES",
    "open-mode": "SBATCH_OPEN_MODE",
    "signal": "SBATCH_SIGNAL",
    "exclusive": "SBATCH_EXCLUSIVE",
}
_NEVER = (
    *("SBATCH_JOB_NAME", "SBATCH_ARRAY_INX", "SBATCH_WAIT"),
    *("SBATCH_OUTPUT", "SBATCH_ERROR", "SBATCH_INPUT"),  # ``logs --batch`` reads what the script's lines name
)

# What sbatch itself reads; all other SLURM_* in an allocation describe that allocation, and would mislead the next.
_SLURM_SETTINGS = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_EXIT_ERROR")


class Queued(Struct, frozen=True):
    """What sbatch answered.  ``cluster`` is None where it named none."""

    slurm_job_id: str
    cluster: str | None = None


def submit(
    script: BatchScript,
    say: Callable[[str], None],
    *,
    after: str | None = None,
    tries: int = SUBMIT_TRIES,
    pause: float = PAUSE_BETWEEN_TRIES,
) -> Queued:
    """Queue a script that was written.

    Args:
        say: told of each try that found no slurmctld.
        after: Slurm job that has to be over first.
        pause: seconds between tries.

    Raises:
        SlurmMissing: there is no sbatch.
        SlurmRefused: with what sbatch said.
        SlurmUnreachable: slurmctld did not answer in any of the tries.
    """
    tried = False

    def once() -> Queued:
        nonlocal tried
        found, tried = find_queued(script) if tried else None, True
        return found or _sbatch(script, after)

    try:
        return patiently(once, say, tries=tries, pause=pause)
    except SlurmUnreachable as error:
        raise SlurmUnreachable(
            f"Slurm's controller does not answer, and {script.path} is not known to be queued:\n"
            f"{_indented(error.message)}",
            "submit again when 'sinfo' answers; should it have been queued all the same, that finds it",
            said=error.said,
        ) from error


def find_queued(script: BatchScript) -> Queued | None:
    """The job of a script, if one is queued or running.

    Raises:
        SlurmError: nobody knows.
    """
    clusters = script.options.value("clusters")
    found = jobs.named([script.name], clusters=clusters)
    return Queued(found[script.name].job_id, clusters) if found else None


def _sbatch(script: BatchScript, after: str | None) -> Queued:
    argv = ["sbatch", "--parsable"]
    if after is not None:
        argv.append(f"--dependency=afterany:{after}")
    argv.append(script.path)
    try:
        said = run(argv, environment=environment_of(script))
    except SlurmRefused as error:
        raise SlurmRefused(
            f"sbatch refused {script.path}:\n{_indented(error.message)}", said=error.said
        ) from error
    for line in reversed(said.splitlines()):  # a site's own words may stand before it
        if match := _ANSWER.fullmatch(line.strip()):
            return Queued(match[1], match[2])
    found = find_queued(script)
    if found is None:
        raise SlurmRefused(f"sbatch took {script.path} and named no job:\n{_indented(said)}", said=said)
    return found


def environment_of(script: BatchScript) -> dict[str, str]:
    """Our own environment, which the job inherits, without what would win over the script."""
    environment = dict(os.environ)
    for option in script.options.options:
        environment.pop(_VARIABLES.get(option.name, ""), None)
    for name in _NEVER:
        environment.pop(name, None)
    if "SLURM_JOB_ID" in environment:
        for name in list(environment):
            if name.startswith("SLURM_") and name not in _SLURM_SETTINGS:
                del environment[name]
    return environment


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())
