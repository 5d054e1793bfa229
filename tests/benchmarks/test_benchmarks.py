"""The benchmark suite works: a small fan, a report from a result.  What it measures is nobody's assertion."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import waiting
from support.sources import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks import catalogue, fan, measure, report

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the floors need a C compiler")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing hangs here, however slow the machine is."""
    monkeypatch.setattr(fan, "READY_WITHIN", waiting.LIMIT)
    monkeypatch.setattr(fan, "GONE_WITHIN", waiting.LIMIT)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("start", [fan.ours, fan.bare], ids=["ours", "bare"])
def test_every_child_of_a_fan_says_when_the_signal_reached_it(tmp_path: Path, start: fan.Start) -> None:
    values = fan.terminate(tmp_path, start, 3, 0.001)
    assert values["reached"] == values["saved"] == 3
    assert 0 < values["first_ms"] <= values["median_ms"] <= values["last_ms"] <= values["exit_ms"] + 1.0


def test_subjects_are_measured_in_turn_and_reported(tmp_path: Path) -> None:
    order: list[str] = []

    def subject(name: str, value: float) -> measure.Once:
        def once(directory: Path) -> measure.Values:
            assert list(directory.iterdir()) == []
            order.append(name)
            return {"x_ms": value}

        return once

    subjects = {"ours": subject("ours", 2.0), "other": subject("other", 3.0), "missing": None}
    targets = (
        measure.Target("x_ms", 0.5, "other"),
        measure.Target("x_ms", 2.0),
        measure.Target("x_ms", 1, "none"),
    )
    one = measure.Measure("m", "what", "ms", subjects, repeat=2, targets=targets)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = measure.run(one, None, None, lambda text: None, scratch)
    assert order == ["ours", "other", "ours", "other"]
    assert len(list(scratch.iterdir())) == 4
    facts = {"cores": 2, "cpu": "c", "memory_bytes": 1 << 30, "kernel": "k", "python": "p", "load": [0.0]}
    report.write([{"machine": facts, "measures": {"m": found}}], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert "| ours | 2 |" in page
    assert "Not installed here: missing." in page
    assert "| m | `x_ms` | at most 0.5 times other | 2 | 3 | 0.67 | **not reached** |" in page
    assert "| m | `x_ms` | at most 2 | 2 |  |  | reached |" in page
    assert "| m | `x_ms` | at most 1 times none | 2 |  |  | not measured |" in page
    assert "<svg" in (tmp_path / "performance" / "m.svg").read_text()


def test_a_subject_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    def broken(directory: Path) -> measure.Values:
        raise OSError("no such thing")

    subjects: dict[str, measure.Once | None] = {"broken": broken, "ours": lambda directory: {"x_ms": 1.0}}
    found = measure.run(measure.Measure("m", "w", "ms", subjects), None, 2, lambda text: None, tmp_path)
    assert found["failed"] == {"broken": "OSError: no such thing"}
    assert list(found["subjects"]) == ["ours"]  # type: ignore[call-overload]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("start", [fan.ours, fan.bare], ids=["ours", "bare"])
def test_every_child_of_a_fan_is_seen_to_be_killed(tmp_path: Path, start: fan.Start) -> None:
    values = fan.kill(tmp_path, start, 3)
    assert values["reached"] == 3
    assert 0 < values["first_ms"] <= values["last_ms"] <= values["exit_ms"]


def test_the_parts_of_the_report_are_all_measures_once() -> None:
    for each in catalogue.measures():
        assert len([p for part in report.PARTS for p in part if fnmatch.fnmatchcase(each, p)]) == 1, each


def test_every_measure_has_us_in_it() -> None:
    assert all("ours" in each.subjects for each in catalogue.measures().values())


def test_the_command_line_lists_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "fan_out_500: SIGTERM with 500 children" in done.stdout
