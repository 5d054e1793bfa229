"""Surroundings: what a run may use, and until when: this machine, or what Slurm allocated of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from msgspec import Struct

from torc_supervise.machine.end_watch import KnownEnd
from torc_supervise.machine.phases import NEVER
from torc_supervise.posix import clock, host
from torc_supervise.scheduler import Capacity
from torc_supervise.slurm import variables
from torc_supervise.slurm.ask import ask
from torc_supervise.slurm.steps import StepSetup
from torc_supervise.slurm.variables import Allocation
from torc_supervise.workflow.signals import SignalSpec, parse_signal_spec

Say = Callable[[str], None]


class RunOptions(Struct, frozen=True):
    """What the command line says about this run.

    ``memory_bytes``, ``num_cpus``, ``num_gpus``: None for what the machine, or the allocation, has.  ``time_limit``:
    seconds from now until the run has to be over, None if only Slurm knows.

    Told by a batch script of ours: ``scheduler``, the slurm_schedulers entry that the allocation was asked for by;
    ``warned_by``, its --signal (always with ``B:``); ``auto_resubmit``, how many further allocations may be queued.
    """

    max_parallel_jobs: int | None = None
    num_cpus: int | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None
    time_limit: float | None = None
    progress: bool = False
    scheduler: str | None = None
    warned_by: str | None = None
    auto_resubmit: int = 0

    @property
    def warning(self) -> SignalSpec | None:
        """``warned_by``, understood; None where it is not to be."""
        try:
            return None if self.warned_by is None else parse_signal_spec(self.warned_by)
        except ValueError:
            return None


class Term(Struct, frozen=True):
    """What is known of the end of an allocation when a run begins.

    ``end``: None where there is none, or where nobody knows it yet.  ``asked``: Slurm said so itself, just now.
    ``kill_wait``: seconds, None where it was not asked for.
    """

    end: KnownEnd | None = None
    asked: bool = False
    kill_wait: float | None = None


class Machine(Struct, frozen=True):
    """What there is for jobs.  ``gpu_names``: entries for CUDA_VISIBLE_DEVICES by GPU index.

    ``steps``: jobs are job steps on the nodes of the allocation, None where they are processes of this host.
    """

    capacity: Capacity
    gpu_names: tuple[str, ...]
    allocation: Allocation | None = None
    term: Term = Term()
    steps: StepSetup | None = None

    def end(self, now: float, time_limit: float | None) -> float:
        """When the run has to be over, monotonic seconds: the earlier of Slurm's end and the limit that was given."""
        limit = self.end_by_limit(now, time_limit)
        return limit if self.term.end is None else min(limit, self.term.end.mono)

    @staticmethod
    def end_by_limit(now: float, time_limit: float | None) -> float:
        return NEVER if time_limit is None else now + time_limit

    def time_left(self, time_limit: float | None) -> float | None:
        """Seconds that this run has in all, None if nobody knows."""
        now = clock.monotonic()
        end = self.end(now, time_limit)
        return None if end == NEVER else max(0.0, end - now)


def survey(options: RunOptions, say: Say) -> Machine:
    """What the options say, and what the allocation or the machine has where they are silent."""
    found = variables.allocation(os.environ)
    term = Term()
    if found is not None:
        found, term = look_at_allocation(found, say)
    names = _gpu_names(os.environ, found)
    if options.num_gpus is not None:
        # Told to stand in for a machine with more GPUs than are visible: plain indexes then.
        names = (
            names[: options.num_gpus]
            if len(names) >= options.num_gpus
            else list(map(str, range(options.num_gpus)))
        )
    cpus, memory = host.num_cpus(), host.memory_bytes()
    if found is not None:
        # Never more than the process may use: the kernel would share out what is not there.
        given = found.cpus_here or cpus
        if found.on_node and cpus < given and options.num_cpus is None:
            say(
                f"warning: the job has {given} CPUs on this node by Slurm's account, and this process may use {cpus}: "
                f"{cpus} are handed out"
            )
        cpus = min(cpus, given)
        memory = min(memory, found.memory_here or memory)
    capacity = Capacity(
        options.num_cpus if options.num_cpus is not None else cpus,
        options.memory_bytes if options.memory_bytes is not None else memory,
        len(names),
        max_parallel_jobs=options.max_parallel_jobs,
    )
    return Machine(capacity, tuple(names), found, term)


def look_at_allocation(found: Allocation, say: Say) -> tuple[Allocation | None, Term]:
    """When it ends.  No allocation after all where Slurm does not know it, and only a shell's variables do.

    One question to Slurm, unless it has said when the job ends.  It may be out of reach: then the end watch goes on.
    """
    epoch, mono, offset = clock.epoch(), clock.monotonic(), clock.boot_offset()
    if found.end_epoch is not None and found.end_epoch > epoch:
        return found, Term(KnownEnd(found.end_epoch, mono + found.end_epoch - epoch, offset))
    answer = ask({"job_id": found.job_id, "kill_wait": True})
    if not answer["ok"]:
        say(
            f"warning: Slurm does not say when job {found.job_id} ends ({answer['message']}); it is asked again later, "
            "and until it answers only a signal ends this run early"
        )
        return found, Term()
    if not answer["running"]:
        if found.on_node:  # just being ended, maybe: the end watch asks again
            return found, Term()
        say(
            f"warning: SLURM_JOB_ID is {found.job_id}, but Slurm has no such job running: "
            "this run is in no allocation"
        )
        return None, Term()
    end = answer["end"]
    if end is None:
        return found, Term(None, True, answer["kill_wait"])
    known = KnownEnd(end, answer["mono"] + (end - answer["epoch"]), answer["boot_offset"])
    return found, Term(known, True, answer["kill_wait"])


def warn_of_other_nodes(found: Allocation, say: Say) -> None:
    """In mode direct jobs are processes of this host."""
    here = host.name()
    if len(found.nodes) > 1:
        say(
            f"warning: job {found.job_id} has {len(found.nodes)} nodes and jobs run on this one alone ({here}); "
            "execution_config.mode: slurm uses all of them"
        )
    elif not found.on_node and found.nodes and here.partition(".")[0] not in found.nodes:
        say(
            f"warning: jobs run here, on {here}, and not on the node of job {found.job_id} ({found.nodes[0]}); "
            "to run them there, start torc-supervise by 'srun --pty', or use 'torc-supervise submit'"
        )


def _gpu_names(environ: Mapping[str, str], found: Allocation | None) -> list[str]:
    """In an allocation only GPUs that Slurm gave: others may be somebody else's."""
    if found is None or environ.get("CUDA_VISIBLE_DEVICES") is not None:
        return host.gpu_names(environ)
    return list(found.gpus or ())
