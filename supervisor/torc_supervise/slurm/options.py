"""What an allocation is asked for: sbatch's options from slurm_defaults, a scheduler's fields and its ``extra``.

Later ones win: defaults, then the scheduler's own fields, then ``extra``.  Where none of them says anything about CPUs,
memory or GPUs, as much is asked for as the largest job needs: what Slurm gives by default may be too little for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.sbatch import SbatchOption, long_name, parse_options
from torc_supervise.workflow.schedulers import SlurmScheduler
from torc_supervise.workflow.signals import SIGNAL_SPEC

OWN_MEMORY = 256 << 20
"""Bytes beside what the jobs ask for: supervisor, keeper and sampler."""

STATE_CPUS = frozenset(
    {
        *(
            "cpus-per-task",
            "ntasks",
            "ntasks-per-node",
            "ntasks-per-core",
            "ntasks-per-socket",
            "ntasks-per-gpu",
        ),
        *(
            "mincpus",
            "cpus-per-gpu",
            "cores-per-socket",
            "sockets-per-node",
            "extra-node-info",
            "tres-per-task",
        ),
    }
)
STATE_MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})
STATE_GPUS = frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "tres-per-task"})

# Of these only one can be given; sbatch refuses two.
_RIVALS = (STATE_MEMORY, frozenset({"requeue", "no-requeue"}))

# How they stand in the script; all others follow as they were written.
_ORDER = (
    *(
        "account",
        "partition",
        "qos",
        "time",
        "nodes",
        "ntasks-per-node",
        "cpus-per-task",
        "mem",
        "gres",
        "tmp",
    ),
)


class AllocationOptions(Struct, frozen=True):
    """sbatch's options in the order of the script; those in ``implied`` nobody wrote, they follow from the jobs."""

    options: tuple[SbatchOption, ...]
    implied: frozenset[str] = frozenset()

    def value(self, name: str) -> str | None:
        return next((option.value for option in self.options if option.name == name), None)

    def states(self, name: str) -> bool:
        return any(option.name == name for option in self.options)

    @property
    def whole_nodes(self) -> bool:
        """All CPUs and GPUs of its nodes, however many they have."""
        return any(option.name == "exclusive" and option.value is None for option in self.options)

    @property
    def warned_by(self) -> str | None:
        """The value of --signal, always with ``B:``."""
        return self.value("signal")


def allocation_options(
    workflow: Workflow, scheduler: SlurmScheduler, jobs: Iterable[Job]
) -> AllocationOptions:
    """What an allocation of this scheduler is asked for.

    Args:
        jobs: those that are to run in it; the largest of them says what is asked for where the file does not.
    """
    chosen: dict[str, SbatchOption] = {}
    for layer in (_defaults(workflow.extra.get("slurm_defaults") or {}), _own(scheduler), _extra(scheduler)):
        for option in layer:
            for rivals in _RIVALS:
                if option.name in rivals:
                    for rival in rivals:
                        chosen.pop(rival, None)
            chosen[option.name] = option
    implied = _implied(chosen, list(jobs))
    for option in implied:
        chosen[option.name] = option
    signal = chosen.pop("signal", None)
    first = [chosen.pop(name) for name in _ORDER if name in chosen]
    last = [SbatchOption("signal", to_the_supervisor(signal.value or ""))] if signal is not None else []
    return AllocationOptions((*first, *chosen.values(), *last), frozenset(option.name for option in implied))


def to_the_supervisor(spec: str) -> str:
    """A --signal specification that reaches the batch process, which is the supervisor: always with ``B:``.

    Without it Slurm signals the job steps, each of their processes, and not the supervisor (docs/decisions/0014).
    """
    match = SIGNAL_SPEC.fullmatch(spec.strip())
    if match is None:
        return spec
    flags, signal, seconds = match.groups()
    flags = "RB" if "R" in (flags or "").upper() else "B"
    return f"{flags}:{signal}" + (f"@{seconds}" if seconds is not None else "")


def _defaults(defaults: Mapping[str, Any]) -> list[SbatchOption]:
    options = []
    for key, value in defaults.items():
        name = long_name(key.lower().replace("_", "-"))
        if value is True:
            options.append(SbatchOption(name))
        elif value is not False and value is not None:
            options.append(SbatchOption(name, _text(value)))
    return options


def _own(scheduler: SlurmScheduler) -> list[SbatchOption]:
    fields = {
        "account": scheduler.account,
        "partition": scheduler.partition,
        "qos": scheduler.qos,
        "time": scheduler.walltime,
        "nodes": str(scheduler.nodes),
        "ntasks-per-node": _text(scheduler.ntasks_per_node),
        "mem": scheduler.mem,
        "gres": scheduler.gres,
        "tmp": scheduler.tmp,
    }
    return [SbatchOption(name, value) for name, value in fields.items() if value is not None]


def _extra(scheduler: SlurmScheduler) -> tuple[SbatchOption, ...]:
    return parse_options(scheduler.extra) if scheduler.extra else ()


def _implied(chosen: Mapping[str, SbatchOption], jobs: list[Job]) -> list[SbatchOption]:
    exclusive = chosen.get("exclusive")
    if not jobs or (exclusive is not None and exclusive.value is None):
        return []
    needs = [job.requirements for job in jobs]
    found = []
    if not chosen.keys() & STATE_CPUS:
        if chosen["nodes"].value != "1":
            found.append(SbatchOption("ntasks-per-node", "1"))
        found.append(SbatchOption("cpus-per-task", str(max(need.num_cpus for need in needs))))
    stated = [need.memory_bytes for need in needs if need.memory_stated]
    if stated and not chosen.keys() & STATE_MEMORY:
        found.append(SbatchOption("mem", f"{-(-(max(stated) + OWN_MEMORY) >> 20)}M"))
    gpus = max(need.num_gpus for need in needs)
    if gpus and not chosen.keys() & STATE_GPUS:
        found.append(SbatchOption("gres", f"gpu:{gpus}"))
    return found


def _text(value: Any) -> str | None:
    """A number as it was meant: 2.0 is 2."""
    if value is None:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
