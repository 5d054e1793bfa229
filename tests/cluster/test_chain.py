"""Chains of allocations on a real cluster: they go on by themselves, stop where they should, and leave none queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.cluster import NODES, Cluster
from support.supervised import whole_lines
from support.waiting import Fifo
from torc_supervise.machine import records as r
from torc_supervise.operations.opened import open_workflow
from torc_supervise.store.layout import find

HEAD = """\
name: chain
slurm_schedulers:
  - {{name: short, account: research, nodes: 1, walltime: "2"{extra}}}
execution_config: {{sigterm_lead_seconds: {lead}, sigkill_headroom_seconds: 5}}
jobs:
"""

# Where Slurm tracks processes one by one, scancel signals each of them, in any order and besides us: so the handler
# starts no process, and the job goes on when its sleep was signalled and it was not yet.
COUNTS = """\
  - name: counts
    supports_termination: true
    checkpoint: count
    command: |
      n=$(cat count 2>/dev/null || echo 0)
      trap 'echo $((n + 1)) >count; exit 0' TERM
      echo "at $n" >said
      if [ "$n" -ge {target} ]; then exit 0; fi
      while :; do sleep 1000 & wait $!; done
"""

FORGETS = """\
  - name: forgets
    supports_termination: true
    checkpoint: never_written
    command: |
      echo "at 0" >said
      trap 'exit 0' TERM
      while :; do sleep 1000 & wait $!; done
"""


class Place:
    """A directory with a workflow in it, and what its journal says."""

    def __init__(self, cluster: Cluster, directory: Path, jobs: str, extra: str = "") -> None:
        self.cluster = cluster
        self.directory = directory
        self.said = Fifo(directory / "said")
        written = f', extra: "{extra}"' if extra else ""
        # Without Slurm's warning the supervisor acts by itself, 45 s after it has begun: by then a job has to work.
        head = HEAD.format(extra=written, lead=5 if extra else 70)
        (directory / "workflow.yaml").write_text(head + jobs)

    def submit(self, *options: str) -> str:
        """Submit the file; the Slurm job's id."""
        done = self.cluster.run("torc-supervise", "submit", "workflow.yaml", *options, cwd=self.directory)
        assert "warning: workflow" not in done.stderr
        self.cluster.wait(lambda: self.events("allocation_submitted"), "nothing is recorded as submitted")
        return str(self.events("allocation_submitted")[0]["slurm_job_id"])

    def events(self, event: str) -> list[dict[str, Any]]:
        path = self.directory / "torc_output" / "workflows" / "1" / "events.jsonl"
        entries = whole_lines(path) if path.exists() else []
        return [entry for entry in entries if entry["event"] == event]

    def wait_for_runs(self, count: int) -> list[str]:
        """Until that many runs have ended; their states."""
        self.cluster.wait(lambda: len(self.events("run_ended")) >= count, f"run {count} does not end")
        return [entry["state"] for entry in self.events("run_ended")]

    def output(self, slurm_job_id: str, suffix: str = "e") -> str:
        return (self.directory / "torc_output" / f"slurm_output_wf1_sl{slurm_job_id}.{suffix}").read_text()

    def queue(self) -> list[str]:
        return self.cluster.run("squeue", "--noheader", "--format=%i").stdout.split()


# Slurm may warn 30 s early, which is 30 s after the start then.
@pytest.mark.parametrize("extra", ["", "--signal=B:TERM@60"])
def test_a_job_that_needs_three_allocations_completes_with_no_hand_on_it(
    cluster: Cluster, tmp_path: Path, extra: str
) -> None:
    place = Place(cluster, tmp_path, COUNTS.format(target=2), extra=extra)
    place.submit("--auto-resubmit", "5")
    for count in (1, 2, 3):
        place.said.expect(1, f"at {count - 1}")
        states = place.wait_for_runs(count)
    assert states == ["terminated", "terminated", "completed"]
    submitted = place.events("allocation_submitted")
    assert [entry["why"] for entry in submitted] == ["submit", "auto_resubmit", "auto_resubmit"]
    assert [entry["auto_resubmit"] for entry in submitted] == [5, 4, 3]
    ids = [entry["slurm_job_id"] for entry in submitted]
    assert [entry.get("after") for entry in submitted] == [None, *ids[:2]]
    assert [cluster.wait_for_end(job) for job in ids][-1] == "COMPLETED"
    assert all("counts" in place.output(job) or place.output(job) for job in ids), "a log for each"
    assert f"allocation {ids[1]} is queued" in place.output(ids[0])
    assert place.queue() == []


def test_no_progress_stops_the_chain_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    place = Place(cluster, tmp_path, FORGETS, extra="--signal=B:TERM@20")
    job = place.submit("--auto-resubmit", "5")
    assert place.wait_for_runs(1) == ["terminated"]
    cluster.wait_for_end(job)
    assert len(place.events("allocation_submitted")) == 1
    assert [entry["code"] for entry in place.events("warning")][-1] == "no_progress"
    assert "auto-resubmit stops" in place.output(job)
    assert "torc-supervise submit 1" in place.output(job)
    assert place.queue() == []


def test_a_controller_that_is_away_at_the_end_is_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    place = Place(cluster, tmp_path, COUNTS.format(target=1))
    place.submit("--auto-resubmit", "1")
    place.said.expect(1, "at 0")
    cluster.stop_controller()
    cluster.wait(lambda: place.events("job_ended"), "the job does not end")
    assert len(place.events("allocation_submitted")) == 1
    cluster.start_controller()
    assert place.wait_for_runs(2) == ["terminated", "completed"]
    assert [entry["why"] for entry in place.events("allocation_submitted")] == ["submit", "auto_resubmit"]


def test_scancel_is_not_followed_by_another(cluster: Cluster, tmp_path: Path) -> None:
    place = Place(cluster, tmp_path, COUNTS.format(target=2), extra="--signal=B:TERM@5")
    job = place.submit("--auto-resubmit", "5")
    place.said.expect(1, "at 0")
    cluster.scancel(job)
    assert place.wait_for_runs(1) == ["terminated"]
    cluster.wait_for_end(job)
    assert (tmp_path / "count").read_text() == "1\n", "it has saved all the same"
    assert len(place.events("allocation_submitted")) == 1
    assert place.queue() == []


SCHEDULES = """\
  - {{name: first, command: "true"}}
  - {{name: second, depends_on: [first], command: "echo second >said; read -r _ <go; {end}"}}
actions:
  - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler_type: slurm, scheduler: short}}
  - trigger_type: on_jobs_ready
    jobs: [second]
    action_type: schedule_nodes
    scheduler_type: slurm
    scheduler: short
"""


@pytest.mark.parametrize(("end", "state"), [("true", "completed"), ("false", "failed")])
def test_a_queued_allocation_that_is_not_needed_any_more_is_canceled(
    cluster: Cluster, tmp_path: Path, end: str, state: str
) -> None:
    place = Place(cluster, tmp_path, SCHEDULES.format(end=end))
    go = Fifo(tmp_path / "go")
    job = place.submit()
    place.said.expect(1, "second")
    cluster.wait(lambda: len(place.events("allocation_submitted")) == 2, "the action is not taken")
    queued = place.events("allocation_submitted")[1]
    assert (queued["why"], queued["after"]) == ("action", job)
    assert cluster.job(queued["slurm_job_id"])["Dependency"].startswith(f"afterany:{job}")
    go.put(b"x\n")
    assert place.wait_for_runs(1) == [state]
    assert [(e["slurm_job_id"], e["how"]) for e in place.events("allocation_ended")] == [
        (queued["slurm_job_id"], "canceled")
    ]
    cluster.wait_for_end(job)
    assert cluster.wait_for_end(queued["slurm_job_id"]) == "CANCELLED"
    assert place.queue() == []


def test_a_run_without_an_allocation_cancels_one_that_waits_for_what_it_has_done(
    cluster: Cluster, tmp_path: Path
) -> None:
    for node in NODES:
        cluster.drain(node)
    place = Place(cluster, tmp_path, '  - {name: a, command: "true"}\n')
    job = place.submit()
    done = cluster.run("torc-supervise", "run", "1", cwd=tmp_path)
    assert f"canceled queued allocation {job}: nothing is left to do" in done.stderr
    assert cluster.wait_for_end(job) == "CANCELLED"
    assert place.wait_for_runs(1) == ["completed"]


def test_an_allocation_that_finds_nothing_to_do_ends_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Its supervisor could not cancel it in time, say."""
    place = Place(cluster, tmp_path, '  - {name: a, command: "exit 3"}\n')
    first = place.submit()
    assert place.wait_for_runs(1) == ["failed"]
    cluster.wait_for_end(first)
    script = place.events("allocation_submitted")[0]["script"]
    again = cluster.submit("--hold", script, cwd=tmp_path)
    with open_workflow(find(str(tmp_path / "torc_output"), 1), "test", print) as opened:
        opened.append(r.AllocationSubmitted(again, "action", "short"))
    cluster.scontrol("release", again)
    assert cluster.wait_for_end(again) == "COMPLETED"
    assert "nothing of workflow 1 is left to run" in place.output(again)
    assert [(e["slurm_job_id"], e["how"]) for e in place.events("allocation_ended")] == [(again, "finished")]
    assert len(place.events("run_ended")) == 1
