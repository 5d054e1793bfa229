"""A workflow that runs in an allocation of the private cluster, and what it left behind."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from support.cluster import Cluster
from support.supervised import Journal, whole_lines

# A job that can save: the first time it works until it is told to end; with a checkpoint it has only little left to do.
# Slurm signals all of its processes, too, in an order of its own: the loop outlives a sleep that dies first, and what
# the trap starts is not to die of the second SIGTERM.
WORKFLOW = """
name: training
jobs:
  - name: train
    supports_termination: true
    checkpoint: checkpoint
    command: |
      if [ -e checkpoint ]; then echo "resumed with $(cat checkpoint)"; exit 0; fi
      trap 'trap "" TERM; echo saved >checkpoint.new; mv checkpoint.new checkpoint; exit 0' TERM
      echo working
      while true; do sleep 1000 & wait $!; done
  - name: evaluate
    depends_on: [train]
    command: cat checkpoint
"""

# Nothing ends it but SIGKILL.
DEAF = """
name: deaf
jobs:
  - name: deaf
    supports_termination: true
    command: |
      trap '' TERM
      echo working
      while true; do sleep 1000; done
"""


def options(*, headroom: int, lead: int) -> str:
    """More of a workflow file: other reserves than the usual ones."""
    return f"execution_config: {{sigkill_headroom_seconds: {headroom}, sigterm_lead_seconds: {lead}}}\n"


class Site:
    """A directory of a user with one workflow in it; allocations run its supervisor."""

    def __init__(self, cluster: Cluster, directory: Path, workflow: str = WORKFLOW) -> None:
        self.cluster = cluster
        self.directory = directory
        (directory / "workflow.yaml").write_text(workflow)
        self.jobs: list[str] = []

    def allocate(self, *options: str, run: tuple[str, ...] = (), before: str = "") -> str:
        """Queue a batch script that execs the supervisor; returns Slurm's job id.

        Args:
            run: options of ``torc-supervise run``.
            before: what the script does first.
        """
        supervisor = shlex.join([sys.executable, "-P", "-m", "torc_supervise_cli", "run"])
        what = "if [ -e torc_output ]; then what=1; else what=workflow.yaml; fi"
        script = f"{before}\n{what}\nexec {supervisor} $what {shlex.join(run)}"
        self.jobs.append(self.cluster.sbatch(script, *options, cwd=self.directory))
        return self.jobs[-1]

    def submit(self, what: str) -> str:
        """``workflows submit`` of a file or an id that queues one allocation; returns Slurm's job id."""
        (one,) = self.command("workflows", "submit", what)["submitted"]
        self.jobs.append(str(one["slurm_job_id"]))
        return self.jobs[-1]

    def wait_for_work(self, text: str = "working", job_id: int = 1) -> None:
        """Until the job says that it works, which it does when it is ready for its signal."""
        self.cluster.wait(
            lambda: text in self.output(job_id), lambda: f"the job does not work\n{self.said(self.jobs[-1])}"
        )

    def output(self, job_id: int = 1, run_id: int = 1) -> str:
        """What a job has printed."""
        path = self.directory / "torc_output" / "job_stdio" / f"job_wf1_j{job_id}_r{run_id}_a1.o"
        return path.read_text() if path.exists() else ""

    def command(self, *arguments: str) -> dict[str, Any]:
        """A command on the login node; its JSON."""
        done = self.cluster.run("torc-supervise", *arguments, "-f", "json", cwd=self.directory)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def said(self, job: str | None = None) -> str:
        """What the supervisor of an allocation has said."""
        job = job or self.jobs[-1]
        paths = [
            *self.directory.glob(f"slurm-{job}.out"),
            *self.directory.glob(f"torc_output/slurm_output_wf1_sl{job}.[oe]"),
        ]
        return "\n".join(path.read_text() for path in paths)

    @property
    def journal(self) -> Journal:
        return Journal(self.directory / "torc_output" / "workflows" / "1" / "events.jsonl")

    def result(self, name: str) -> dict[str, Any]:
        return self.journal.results()[name]

    def wait_for_record(self, event: str, **fields: Any) -> None:
        """Until the journal has such a line."""
        path = self.directory / "torc_output" / "workflows" / "1" / "events.jsonl"

        def there() -> bool:
            entries = whole_lines(path) if path.exists() else []
            return any(
                entry["event"] == event and all(entry.get(name) == value for name, value in fields.items())
                for entry in entries
            )

        self.cluster.wait(there, f"no {event} {fields} in the journal")

    def assert_saved(self, run_id: int | None = None) -> None:
        """The promises of an ending: the work is saved and said to be, and every attempt has its one result.

        Args:
            run_id: the run that ended so, if not the last one.
        """
        assert (self.directory / "checkpoint").read_text() == "saved\n"
        of_run = {"run_id": run_id} if run_id is not None else {}
        result, journal = self.result("train"), self.journal
        if run_id is not None:
            (result,) = journal.of("job_ended", job_id=1, run_id=run_id)
        ended = (result["status"], result["ended"], result["checkpoint_saved"])
        assert ended == ("terminated", "in_grace", True), self.said()
        last = journal.of("run_ended", **of_run)[-1]
        assert (last["state"], last["exit_code"]) == ("terminated", 75)

    def assert_completed(self) -> None:
        assert {result["status"] for result in self.journal.results().values()} == {"completed"}
        assert self.journal.of("run_ended")[-1]["state"] == "completed"

    def go_on(self) -> None:
        """The next allocation completes what this one began."""
        self.allocate("--time=2")
        assert self.wait_for_end()["ExitCode"] == "0:0", self.said()
        self.assert_completed()

    def wait_for_end(self, job: str | None = None) -> dict[str, str]:
        """Until the allocation is over; what ``scontrol show job`` says of it.  Nothing of it may be left."""
        job = job or self.jobs[-1]
        self.cluster.wait_for_end(job)
        self.cluster.wait(lambda: not self.cluster.leftovers(), lambda: f"left: {self.cluster.leftovers()}")
        return self.cluster.job(job)
