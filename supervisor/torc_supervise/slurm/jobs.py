"""What Slurm says about jobs: one squeue call for many."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from torc_supervise.slurm.commands import ANSWER_WITHIN, SlurmRefused, run

QUEUED = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
RUNNING = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
ENDING = frozenset({"COMPLETING"})

# %A job id (%i would be "12_3" for a task of an array, whose SLURM_JOB_ID is another), %T state, %r reason, %e end,
# %S start, %V submission, %N nodes, %P partition, %E dependency, %j name.  The name comes last: it alone may hold the
# separator.
_FORMAT = "%A|%T|%r|%e|%S|%V|%N|%P|%E|%j"
_NOTHING = ("", "N/A", "n/a", "NONE", "None", "(null)", "Unknown", "UNLIMITED", "NOT_SET")


class SlurmJob(Struct, frozen=True):
    """One job.  Times are seconds since 1970, None where Slurm does not know or the job has no limit."""

    job_id: str
    state: str  # in full: "PENDING"
    reason: str | None = None
    end: float | None = None
    start: float | None = None  # of a queued job: expected
    submitted: float | None = None
    nodes: str | None = None  # a host list
    partition: str | None = None
    dependency: str | None = None
    name: str = ""

    @property
    def is_queued(self) -> bool:
        return self.state in QUEUED

    @property
    def is_running(self) -> bool:
        """Its processes may run.  A job that is COMPLETING is being ended, see :attr:`is_ending`."""
        return self.state in RUNNING

    @property
    def is_ending(self) -> bool:
        return self.state in ENDING

    @property
    def is_over(self) -> bool:
        """Completed, failed, canceled, timed out, preempted, ...: nothing of it runs or will."""
        return not (self.is_queued or self.is_running or self.is_ending)


def look(
    job_ids: Iterable[str], *, timeout: float = ANSWER_WITHIN, clusters: str | None = None
) -> dict[str, SlurmJob]:
    """What squeue knows of these jobs, by id.  A job that is missing is gone: it ended a while ago, or never was.

    Args:
        clusters: names of the clusters to ask, where they were submitted to others than this one.

    Raises:
        SlurmMissing, SlurmUnreachable: nobody knows.
    """
    wanted = list(job_ids)
    if not wanted:
        return {}
    try:
        # --states=all: a job that ended stays visible for MinJobAge (300 s by default), with how it ended.
        text = run(
            [
                *_squeue(clusters),
                "--states=all",
                f"--jobs={','.join(wanted)}",
            ],
            timeout=timeout,
        )
    except SlurmRefused as error:
        if "invalid job id" in error.said.lower():  # squeue 22.05, where none of the ids is known any more
            return {}
        raise
    jobs = (parse(line) for line in text.splitlines() if line.count("|") >= 9)
    return {job.job_id: job for job in jobs}


def named(
    names: Iterable[str], *, timeout: float = ANSWER_WITHIN, clusters: str | None = None
) -> dict[str, SlurmJob]:
    """Our own jobs of these names that are queued or running, by name.

    Raises:
        SlurmError: nobody knows.
    """
    wanted = ",".join(names)
    if not wanted:
        return {}
    text = run([*_squeue(clusters), "--me", f"--name={wanted}"], timeout=timeout)
    jobs = (parse(line) for line in text.splitlines() if line.count("|") >= 9)
    return {job.name: job for job in jobs}


def _squeue(clusters: str | None) -> list[str]:
    """With clusters, squeue prints a line with each one's name before its jobs.  --all: hidden partitions too."""
    argv = ["squeue", "--all", "--noheader", f"--format={_FORMAT}"]
    return argv if clusters is None else [*argv, f"--clusters={clusters}"]


def parse(line: str) -> SlurmJob:
    """One line of squeue in our format."""
    job_id, state, reason, end, start, submitted, nodes, partition, dependency, name = line.split("|", 9)
    return SlurmJob(
        job_id.strip(),
        state.strip().upper(),
        _text(reason),
        _seconds(end),
        _seconds(start),
        _seconds(submitted),
        _text(nodes),
        _text(partition),
        _text(dependency),
        name.strip(),
    )


def _text(field: str) -> str | None:
    stripped = field.strip()
    return None if stripped in _NOTHING else stripped


def _seconds(field: str) -> float | None:
    stripped = field.strip()
    return float(stripped) if stripped.isdecimal() and int(stripped) > 0 else None
