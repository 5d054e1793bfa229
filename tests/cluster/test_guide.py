"""The guide's way: warned near the end, saved, over before the limit, and completed by the next allocation."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.allocated import WORKFLOW, Site, options
from support.cluster import Cluster


@pytest.mark.parametrize("signal", ["B:TERM@25", "B:USR1@25", "B:10@25", None], ids=str)
def test_a_workflow_is_completed_by_two_allocations(
    cluster: Cluster, tmp_path: Path, signal: str | None
) -> None:
    # With the usual reserves the supervisor would act before Slurm's warning: a minute is short.
    site = Site(cluster, tmp_path, WORKFLOW + options(headroom=5, lead=10))
    if signal is None:
        site.allocate("--time=1")
    else:
        site.allocate("--time=1", f"--signal={signal}", run=("--warned-by", signal))
    site.wait_for_work()
    ended = site.wait_for_end()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), "over by itself, before its limit"
    site.assert_saved()
    why = "wall_time" if signal is None else "signal"
    assert site.result("train")["why"] == why
    status = site.command("status", "1")
    assert (status["state"], status["jobs_by_status"]["terminated"]) == ("terminated", 1)
    assert "stopped early with work left; to go on: torc-supervise submit 1" in site.said()

    (reset,) = site.command("workflows", "reinitialize", "1")["reset"]
    assert (reset["name"], reset["reason"]) == ("train", "was terminated")
    site.go_on()
    out = tmp_path / "torc_output" / "job_stdio" / "job_wf1_j1_r2_a1.o"
    assert out.read_text() == "resumed with saved\n"
