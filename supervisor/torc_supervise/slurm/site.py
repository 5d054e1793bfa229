"""Which cluster this is, and whether a node of it answers."""

from __future__ import annotations

from collections.abc import Mapping

from torc_supervise.slurm.commands import SlurmError, run

_SILENT = ("down", "fail", "unknown", "error", "reboot", "power", "boot")


def cluster_name(environ: Mapping[str, str], *, timeout: float = 10.0) -> str | None:
    """Its name; None where nobody says it."""
    name = environ.get("SLURM_CLUSTER_NAME")
    if name:
        return name
    try:
        text = run(["scontrol", "show", "config"], timeout=timeout)
    except SlurmError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ClusterName":
            return value.strip() or None
    return None


def node_answers(node: str, *, timeout: float = 10.0) -> bool:
    """Whether Slurm is in touch with the node of that name.  False in doubt.

    A job that was on a node which answers is really over once Slurm says so: slurmd has ended its processes.
    """
    try:
        text = run(["sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%T"], timeout=timeout)
    except SlurmError:
        return False
    states = {line.strip().lower() for line in text.splitlines() if line.strip()}
    return bool(states) and not any(s.endswith("*") or any(word in s for word in _SILENT) for s in states)
