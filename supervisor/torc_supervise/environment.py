"""What a job finds in its environment (TORC.md 3.3 and DESIGN.md section 4)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from torc_supervise.machine import deadlines
from torc_supervise.workflow.model import Job, Workflow


class RunEnvironment(Struct, frozen=True):
    """What is the same for all jobs of a run.

    ``gpu_names``: entries for CUDA_VISIBLE_DEVICES by GPU index.  ``end_epoch``: seconds since 1970 when SIGKILL goes
    out at the latest, if known.  ``grace_scale``: see ``deadlines.WallTime``.
    """

    base: Mapping[str, str]
    workflow: Workflow
    workflow_id: int
    output_directory: str
    submission_directory: str
    gpu_names: tuple[str, ...] = ()
    end_epoch: float | None = None
    grace_scale: float = 1.0

    def of(self, job: Job, run_id: int, attempt_id: int, gpus: tuple[int, ...]) -> dict[str, str]:
        """The whole environment of one attempt.  The job's own ``env`` wins over everything but TORC_*."""
        grace, _ = deadlines.grace_of(job, self.workflow.execution)
        env = {**self.base, **job.env}
        env["TORC_WORKFLOW_ID"] = str(self.workflow_id)
        env["TORC_RUN_ID"] = str(run_id)
        env["TORC_JOB_ID"] = str(job.job_id)
        env["TORC_JOB_NAME"] = job.name
        env["TORC_ATTEMPT_ID"] = str(attempt_id)
        env["TORC_OUTPUT_DIR"] = self.output_directory
        env["TORC_WORKFLOW_SUBMISSION_DIR"] = self.submission_directory
        env["TORC_GRACE_SECONDS"] = f"{grace * self.grace_scale if job.supports_termination else 0:g}"
        if self.end_epoch is not None:
            env["TORC_END_TIME"] = f"{self.end_epoch:.0f}"
        if gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpu_names[index] for index in gpus)
        return env
