"""The text of slurm.conf, gres.conf and the hosts file."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

from slurm_cluster.place import Place

NODES = ("node1", "node2", "node3")
CONTROLLER = "controller"
CPUS, MEMORY = 4, 4000
"""What each node says it has.  The machine may have less: config_overrides has slurmd believe it."""

GPUS = ("/dev/zero", "/dev/full")
"""What the nodes take for their GPUs: Slurm only wants these files to exist.  Jobs get CUDA_VISIBLE_DEVICES."""


@dataclass(frozen=True)
class Options:
    """What can be chosen when a cluster is brought up."""

    kill_wait: int = 10
    grace_time: int = 10
    # More than KillWait by some seconds: a job that begins anew where its first run is still being killed makes Slurm
    # drain the node ("Duplicate jobid") and hold the job.
    requeue_delay: int = 15
    slurmd_timeout: int = 30
    extra: list[str] = field(default_factory=list)


def user() -> str:
    """Who runs the daemons: whoever brings the cluster up."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def slurm_conf(place: Place, ports: list[int], options: Options, host: str | None) -> str:
    """The configuration.

    Args:
        ports: the controller's, and then one of each node.
        host: name of the one host that all of them see, where they cannot have names of their own.
    """
    lines = [
        "ClusterName=private",
        f"SlurmctldHost={host or CONTROLLER}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        f"SlurmUser={user()}",
        f"SlurmdUser={user()}",
        # How long a requeued job waits is the lifetime of its credential: there is no other parameter for it.
        f'AuthInfo="socket={place.munge_socket},cred_expire={options.requeue_delay}"',
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # In quotes, as there may be blanks in a path.
        f'StateSaveLocation="{place.short}/state"',
        f'SlurmdSpoolDir="{place.short}/spool/%n"',
        f'SlurmctldPidFile="{place.short}/slurmctld.pid"',
        f'SlurmdPidFile="{place.short}/%n.pid"',
        f'SlurmctldLogFile="{place.log}/slurmctld.log"',
        f'SlurmdLogFile="{place.log}/%n.log"',
        "SlurmctldDebug=verbose",
        "SlurmdDebug=verbose",
        # Nothing of the machine is touched or needed: no cgroups, no pinning, no accounting.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        # Else a job that asks for no memory would get all of a node's, and no other job fits beside it.
        f"DefMemPerCPU={MEMORY // CPUS}",
        "SlurmdParameters=config_overrides",
        # Limits of the shell that submits are not those of a node, and may be higher than a daemon can set.
        "PropagateResourceLimits=NONE",
        # Quick: schedule at each event, and look for ended jobs and crashed nodes often.
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0",
        f"KillWait={options.kill_wait}",
        "MinJobAge=300",
        "InactiveLimit=0",
        f"SlurmdTimeout={options.slurmd_timeout}",
        "SlurmctldTimeout=30",
        # A machine may be so busy that a daemon answers late; that is no fault of the cluster.  But this is also how
        # long a command tries to reach a controller that has been stopped.
        "MessageTimeout=15",
        "TCPTimeout=10",
        "BatchStartTimeout=60",
        "ReturnToService=2",
        "JobRequeue=1",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "GresTypes=gpu",
        *options.extra,
    ]
    for node, port in zip(NODES, ports[1:], strict=True):
        lines.append(
            f"NodeName={node} NodeHostname={host or node} NodeAddr=127.0.0.1 Port={port}"
            f" CPUs={CPUS} Boards=1 SocketsPerBoard=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory={MEMORY}"
            f" Gres=gpu:{len(GPUS)} State=UNKNOWN"
        )
    everywhere = f"Nodes={','.join(NODES)} State=UP MaxTime=INFINITE DefaultTime=60"
    lines += [
        f"PartitionName=normal Default=YES PriorityTier=10 PreemptMode=OFF {everywhere}",
        f"PartitionName=urgent PriorityTier=100 PreemptMode=OFF {everywhere}",
        f"PartitionName=preemptible PriorityTier=1 PreemptMode=REQUEUE {everywhere}",
        f"PartitionName=graceful PriorityTier=1 PreemptMode=REQUEUE GraceTime={options.grace_time} {everywhere}",
    ]
    return "\n".join(lines) + "\n"


def gres_conf() -> str:
    return "".join(["AutoDetect=off\n", *(f"Name=gpu File={path}\n" for path in GPUS)])


def hosts() -> str:
    """What the daemons and jobs see as /etc/hosts: the machine's own, and first of all the nodes.

    So no name of ours needs to be known to the machine, whose own name need not resolve either.
    """
    try:
        others = Path("/etc/hosts").read_text(errors="replace")
    except OSError:
        others = ""
    return f"127.0.0.1 localhost {CONTROLLER} {' '.join(NODES)}\n{others}"
