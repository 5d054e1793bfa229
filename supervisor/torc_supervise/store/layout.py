"""Where things are on disk, below one output directory (DESIGN.md section 5)."""

from __future__ import annotations

import os

from torc_supervise.errors import TorcError, UsageError, WorkflowNotFound

DEFAULT_OUTPUT_DIRECTORY = "torc_output"


class WorkflowFiles:
    """The files of one workflow.  No struct: ``status`` does without the import of msgspec."""

    __slots__ = ("output", "workflow_id")

    def __init__(self, output: str, workflow_id: int) -> None:
        self.output = output  # absolute path of the output directory
        self.workflow_id = workflow_id

    @property
    def directory(self) -> str:
        return os.path.join(self.output, "workflows", str(self.workflow_id))

    @property
    def journal(self) -> str:
        return os.path.join(self.directory, "events.jsonl")

    @property
    def snapshot(self) -> str:
        return os.path.join(self.directory, "status.json")

    @property
    def lock(self) -> str:
        return os.path.join(self.directory, "lock")

    def batch_script(self, number: int) -> str:
        """``workflows/{W}/slurm_wf{W}_{number}.sh``; a workflow's allocations are numbered from 1."""
        return os.path.join(self.directory, f"slurm_wf{self.workflow_id}_{number}.sh")

    def batch_output(self, slurm_job_id: str, suffix: str) -> str:
        """``slurm_output_wf{W}_sl{job}.{suffix}``, as Torc names them: "o" for stdout, "e" for stderr."""
        return os.path.join(self.output, f"slurm_output_wf{self.workflow_id}_sl{slurm_job_id}.{suffix}")

    @property
    def cancel_request(self) -> str:
        """See :mod:`torc_supervise.store.requests`."""
        return os.path.join(self.directory, "cancel_request")

    @property
    def actions_log(self) -> str:
        """What the commands of actions write to stdout and stderr."""
        return os.path.join(self.directory, "actions.log")

    @property
    def stdio_directory(self) -> str:
        return os.path.join(self.output, "job_stdio")

    def stdio(self, job_id: int, run_id: int, attempt_id: int, suffix: str) -> str:
        """``job_stdio/job_wf{W}_j{J}_r{R}_a{A}.{suffix}``, as Torc names them: no name from a file gets into a path."""
        # As os.path.join does it, for all jobs of a run.
        between = "" if self.output.endswith("/") else "/"
        name = f"job_wf{self.workflow_id}_j{job_id}_r{run_id}_a{attempt_id}.{suffix}"
        return f"{self.output}{between}job_stdio/{name}"


def workflow_ids(output: str) -> list[int]:
    """The ids of all workflows below an output directory, ascending.

    Raises:
        TorcError: the directory cannot be read.
    """
    try:
        names = os.listdir(os.path.join(output, "workflows"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise TorcError(f"cannot read the output directory {output}: {error.strerror}") from error
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def find(output: str, workflow_id: int | None) -> WorkflowFiles:
    """An existing workflow; without an id the newest one.

    Raises:
        UsageError: the path is no text.
        WorkflowNotFound: naming those that exist.
    """
    output = os.path.abspath(output)
    _require_text(output)
    ids = workflow_ids(output)
    if workflow_id is None:
        if not ids:
            raise WorkflowNotFound(
                f"no workflow in {output}",
                "start one with 'torc-supervise run workflow.yaml', or name its directory with --output-dir",
            )
        workflow_id = ids[-1]
    files = WorkflowFiles(output, workflow_id)
    if not os.path.exists(files.journal):
        there = f"there are: {', '.join(map(str, ids[-20:]))}" if ids else "there is none"
        raise WorkflowNotFound(
            f"no workflow {workflow_id} in {output}",
            f"{there}; 'torc-supervise list' shows them, --output-dir looks elsewhere",
        )
    return files


def _require_text(directory: str) -> None:
    """A path of a file system need not be UTF-8, and JSON, which the journal and every answer consist of, must."""
    name = os.fsencode(directory)
    try:
        name.decode()
    except UnicodeDecodeError as error:
        shown = name.decode(errors="backslashreplace")
        raise UsageError(
            f"the name of the directory {shown} is not UTF-8 (byte {error.start + 1})",
            "use another directory; one for the output is named with --output-dir",
        ) from error


def next_files(output: str) -> WorkflowFiles:
    """What :func:`claim_new` would take now.  Writes nothing."""
    output = os.path.abspath(output)
    return WorkflowFiles(output, max(workflow_ids(output), default=0) + 1)


def claim_new(output: str) -> WorkflowFiles:
    """Take the next free workflow id, by an atomic mkdir.

    Raises:
        UsageError: a path is no text.
        TorcError: the output directory cannot be made or written.
    """
    output = os.path.abspath(output)
    _require_text(output)
    _require_text(os.getcwd())
    try:
        # Never writable by everybody, whatever the umask: see store.trust.
        for directory in (output, os.path.join(output, "workflows"), os.path.join(output, "job_stdio")):
            os.makedirs(directory, 0o775, exist_ok=True)
        candidate = max(workflow_ids(output), default=0) + 1
        while True:
            files = WorkflowFiles(output, candidate)
            try:
                os.mkdir(files.directory, 0o775)
                return files
            except FileExistsError:
                candidate += 1  # somebody else took it in between
    except OSError as error:
        raise TorcError(
            f"cannot write to the output directory {output}: {error.strerror}",
            "choose another one with --output-dir",
        ) from error
