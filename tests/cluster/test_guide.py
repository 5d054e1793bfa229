"""The guide's example as a user runs it: submitted, warned, saved, over before its limit, submitted again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.allocated import Site
from support.cluster import Cluster
from support.sources import ROOT

EXAMPLE = ROOT / "examples" / "ml_training"
TRAIN = "train.py --checkpoint-dir checkpoints"

MOST = 5
"""Allocations.  Two do, unless Slurm's warning comes so early, as it may, that the training has not begun."""


def example(directory: Path, signal: str | None) -> str:
    """The example in ``directory``, fitted to a cluster of small nodes and a limit of one minute; its text."""
    shutil.copytree(EXAMPLE, directory, dirs_exist_ok=True)
    text = (directory / "workflow.yaml").read_text()
    changes = {
        "num_cpus: 8": "num_cpus: 1",
        "memory: 32g": "memory: 100m",
        "      num_gpus: 1\n": "",
        "runtime: PT4H": "runtime: PT1M",
        "partition: gpu": "partition: normal",
        '"04:00:00"': '"00:01:00"',
        'extra: "--signal=B:TERM@300"': "" if signal is None else f'extra: "--signal={signal}"',
        TRAIN: f"{TRAIN} --seconds-per-epoch $(cat pace)",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    # With the usual reserves the supervisor would act before Slurm's warning does: a minute is short.
    return text + "execution_config: {sigkill_headroom_seconds: 5, sigterm_lead_seconds: 10}\n"


@pytest.mark.parametrize("signal", ["B:TERM@25", "B:USR1@25", "B:10@25", "TERM@25", None], ids=str)
def test_the_guides_example_is_completed_by_a_few_allocations(
    cluster: Cluster, tmp_path: Path, signal: str | None
) -> None:
    site = Site(cluster, tmp_path, example(tmp_path, signal))
    pace = tmp_path / "pace"
    pace.write_text("10")  # 40 epochs take longer than the allocation
    what, stopped = "workflow.yaml", None
    for _ in range(MOST):
        job = site.submit(what)
        ended = site.wait_for_end(job)
        if ended["ExitCode"] == "0:0":
            break
        assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), site.said(job)
        assert "stopped early with work left; to go on: torc-supervise submit 1" in site.said(job)
        assert site.command("workflows", "status", "1")["state"] == "terminated"
        # One that was warned before it had its handler, a moment after its start, was no training.
        run = site.journal.of("run_started")[-1]["run_id"]
        if stopped is None and "no checkpoint at" in site.output(job_id=2, run_id=run):
            stopped = site.journal.results()["train_model"]
        if stopped is not None:
            pace.write_text("0.1")
        assert site.command("workflows", "reinitialize", "1")["reset"]
        what = "1"
    assert stopped is not None
    assert (stopped["status"], stopped["ended"]) == ("terminated", "in_grace")
    assert stopped["checkpoint_saved"] is True
    assert stopped["why"] == ("wall_time" if signal is None else "signal")
    last = site.journal.of("run_started")[-1]["run_id"]
    assert "resumed from epoch" in site.output(job_id=2, run_id=last)
    site.assert_completed()
