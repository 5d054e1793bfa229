"""Launcher: from a job to a process: its command line, its files' names, its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from signal import Signals

from msgspec import Struct
from msgspec.structs import replace

from torc_supervise.capacity import Placement
from torc_supervise.environment import RunEnvironment
from torc_supervise.machine.deadlines import WallTime
from torc_supervise.machine.orders import Start
from torc_supervise.machine.step_check import step_name
from torc_supervise.posix import clock, namespaces
from torc_supervise.posix.cgroups import JobCgroup, JobCgroups
from torc_supervise.posix.kernel import Kernel
from torc_supervise.posix.marks import NONCE
from torc_supervise.posix.shell import command_line
from torc_supervise.posix.spawn import SpawnFailedError, SpawnRefusedError
from torc_supervise.slurm.hostlist import compress
from torc_supervise.slurm.steps import LEADER_NAME, LEADER_VALUE, StepSetup, leader_command
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.store.view import stdio_paths
from torc_supervise.workflow.model import Job, JobId

BURST = 8
"""Jobs that are started before anything else has its turn: a signal that comes meanwhile waits for so many at most."""


class Launch(Struct, frozen=True):
    """What is handed to the kernel."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    cgroup: JobCgroup | None = None


class Started(Struct, frozen=True):
    """What became of a start: ``came_to`` is the pid of the leader, or why there is none.

    ``now``, ``t``: monotonic seconds and wall time just before.  ``cgroup``: the name of its own, if it has one.
    """

    job: Job
    now: float
    t: str
    came_to: int | SpawnRefusedError | SpawnFailedError
    cgroup: str | None = None


class Launcher(Struct):
    """``bash``: absolute path.  ``open_files``: soft limit that jobs return to, None to leave it.

    ``nonce``: what the processes of this run carry and no others (``posix.marks``).  ``oom_score_adj``: how much sooner
    than others the kernel ends them when memory is short, None to leave that.  ``cgroups``: of the jobs, if any.
    ``steps``: jobs are job steps, and what is started here is the leader of each.
    """

    bash: str
    files: WorkflowFiles
    environment: RunEnvironment
    open_files: int | None = None
    steps: StepSetup | None = None
    nonce: str = ""
    oom_score_adj: int | None = None
    cgroups: JobCgroups | None = None

    @property
    def burst(self) -> int:
        """How many to start at a time: job steps one by one, since nobody finds those that are not on record."""
        return BURST if self.steps is None else 1

    def move_end(self, wall: WallTime) -> None:
        """Jobs that are started from now on are told of this end."""
        now = clock.monotonic()
        kill_by = clock.epoch() + (wall.kill_at - now) if wall.known else None
        self.environment = replace(self.environment, end_epoch=kill_by, grace_scale=wall.grace_scale)

    def ended(self, job_id: JobId, seq: int) -> None:
        """The end of an attempt is record number ``seq``, which is not durable yet."""
        if self.cgroups is not None:
            self.cgroups.ended(job_id, seq)

    def confirmed(self, seq: int) -> None:
        """Records up to this number are durable."""
        if self.cgroups is not None:
            self.cgroups.confirmed(seq)

    def launch(self, kernel: Kernel, orders: list[Start], run_id: int, started: list[Started]) -> None:
        """Start these attempts: what they need is made ready for all of them, and then they are spawned.

        Between two spawns the core is the jobs'.  Whatever is done there finds its caches cold, and takes three times
        as long.

        Args:
            started: gets what became of each of them, as far as it came.
        """
        ready = [
            (order.job, self._prepare(order.job, run_id, order.attempt_id, order.placement))
            for order in orders
        ]
        full: Started | None = None
        for job, launch in ready:
            if full is not None:  # nor is there room for the rest of the burst
                started.append(replace(full, job=job))
                continue
            now, t, cgroup = kernel.monotonic(), kernel.wall(), launch.cgroup
            try:
                pid = kernel.spawn(launch.argv, launch.environment, cgroup)
                started.append(Started(job, now, t, pid, cgroup.name if cgroup is not None else None))
            except SpawnFailedError as error:
                started.append(Started(job, now, t, error))
            except SpawnRefusedError as error:
                full = Started(job, now, t, error)
                started.append(full)
        for each in started:
            if self.cgroups is not None and not isinstance(each.came_to, int):
                self.cgroups.not_started(each.job.job_id)

    def _prepare(self, job: Job, run_id: int, attempt_id: int, placement: Placement) -> Launch:
        """Everything that one attempt needs to be spawned.  Opens no file: the job's shell does (P8)."""
        command = f"{job.invocation_script} {job.command}" if job.invocation_script else job.command
        mode = job.stdio or self.environment.workflow.execution.stdio
        stdout, stderr = stdio_paths(self.files, mode, job.job_id, run_id, attempt_id)
        environment = self.environment.of(job, run_id, attempt_id, placement.gpus)
        environment[NONCE] = self.nonce
        if self.steps is None:
            cgroup = self.cgroups.take(job.job_id) if self.cgroups is not None else None
            return Launch(
                self._command_line(job, command, stdout, stderr, environment, cgroup), environment, cgroup
            )
        task: dict[str, object] = {
            "bash": self.bash,
            "command": command,
            "stdout": stdout,
            "stderr": stderr,
            "open_files": self.open_files,
            "scope": job.signal_scope,
            "nodes": len(placement.nodes),
            "cpus": job.requirements.num_cpus,
        }
        environment["TORC_NODELIST"] = compress(placement.nodes)
        environment["TORC_NUM_NODES"] = str(len(placement.nodes))
        limited = self.environment.workflow.execution.limit_resources
        name = step_name(self.environment.workflow_id, job.job_id, run_id, attempt_id)
        grace = float(environment["TORC_GRACE_SECONDS"])
        srun = self.steps.srun_command(
            job, name, placement.nodes, placement.memory_bytes, grace, limited=limited
        )
        environment[LEADER_NAME] = LEADER_VALUE
        argv = leader_command(self.steps.python, srun, task, self.environment.base, environment, stderr)
        return Launch(argv, environment)

    def _command_line(
        self,
        job: Job,
        command: str,
        stdout: str | None,
        stderr: str | None,
        environment: Mapping[str, str],
        cgroup: JobCgroup | None,
    ) -> tuple[str, ...]:
        isolated = self.environment.workflow.isolates(job)
        entrance = cgroup.entrance if cgroup is not None else None
        parent, entered = (None, None) if isolated else (os.getpid(), entrance)  # seen to by the leader
        argv = command_line(
            self.bash, command, stdout, stderr, parent, self.open_files, self.oom_score_adj, entered
        )
        return self._in_namespace(argv, job, environment, entrance) if isolated else argv

    def _in_namespace(
        self, argv: tuple[str, ...], job: Job, environment: Mapping[str, str], cgroup: str | None
    ) -> tuple[str, ...]:
        signum = Signals[job.termination_signal or self.environment.workflow.execution.termination_signal]
        grace = float(environment["TORC_GRACE_SECONDS"])
        return namespaces.leader_command(
            argv, environment, scope=job.signal_scope, signum=signum, grace=grace, cgroup=cgroup
        )
