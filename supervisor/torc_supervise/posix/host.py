"""What this machine is and has: name, CPUs, memory, GPUs.  Read once, before anything is started."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping


def name() -> str:
    """The host name as the kernel knows it."""
    return os.uname().nodename


def num_cpus() -> int:
    """CPUs that this process may run on (sched_getaffinity(2)), as taskset, Slurm and cpusets leave them."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """Physical memory, or the limit of our cgroup where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup_limit()
    return physical if limit is None else min(physical, limit)


def gpu_names(environment: Mapping[str, str]) -> list[str]:
    """The entries that CUDA_VISIBLE_DEVICES may hold here, in order.

    The variable itself where it is set (Slurm sets it), else one index per /dev/nvidiaN.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [
            entry.strip() for entry in visible.split(",") if entry.strip() not in ("", "-1", "NoDevFiles")
        ]
    try:
        devices = [entry for entry in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", entry)]
    except OSError:
        return []
    return [str(index) for index in range(len(devices))]


def _cgroup_limit() -> int | None:
    """The lowest memory.max (cgroup v2) on the way from our cgroup to the root."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            path = next((line[3:].strip() for line in file if line.startswith("0::")), None)
    except (OSError, UnicodeDecodeError):
        return None
    limits = []
    while path:
        try:
            with open(f"/sys/fs/cgroup{path}/memory.max", encoding="ascii") as file:
                text = file.read().strip()
        except OSError:
            text = "max"
        if text.isdigit():
            limits.append(int(text))
        path = path.rpartition("/")[0]
    return min(limits, default=None)
