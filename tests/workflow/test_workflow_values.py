"""The small value languages: memory, durations, Slurm times, signals."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.workflow.duration import parse_duration, parse_time_limit
from torc_supervise.workflow.memory import UNITS, parse_memory
from torc_supervise.workflow.signals import (
    SignalSpec,
    parse_signal,
    parse_signal_spec,
)
from torc_supervise.workflow.walltime import parse_walltime

HOUR = 3600.0
DAY = 86400.0


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("4k", 4096), ("2M", 2 << 20), (" 4g ", 4 << 30), ("1T", 1 << 40)],
)
def test_memory_is_binary(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4GB", "write 4g"),
        ("4 GiB", "write 4g"),
        ("1.5g", "write 1536m"),
        ("2.0g", "write 2g"),
        ("-1g", "whole number"),
        ("", "cannot be empty"),
        ("lots", "whole number"),
        ("９g", "whole number"),
        ("99999999t", "more memory"),
        ("9" * 5000, "more memory"),
    ],
)
def test_memory_refuses_with_the_way_out(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_memory(text)


def format_memory(size: int) -> str:
    """The shortest exact spelling of a number of bytes: ``4g`` for 4294967296."""
    for letter in "tgmk":
        if size and size % UNITS[letter] == 0:
            return f"{size // UNITS[letter]}{letter}"
    return str(size)


@given(st.integers(0, (1 << 63) - 1))
def test_memory_prints_what_it_reads(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT4H", 4 * HOUR),
        ("P0DT1M", 60),
        ("pt1h30m", 5400),
        ("P1DT12H", 1.5 * DAY),
        ("P2W", 14 * DAY),
        ("P1Y", 365.25 * DAY),
        ("P1M", 2_629_800),
        ("PT0.5S", 0.5),
    ],
)
def test_iso_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "4h", "PT4", "P1H", "1:00:00", "PT1M1H", "P9999Y", "P" + "9" * 400 + "D"]
)
def test_iso_durations_refuse(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("04:00:00", 4 * HOUR),
        ("1-12", 1.5 * DAY),
        ("1-12:30", 1.5 * DAY + 1800),
        ("1-12:30:15", 1.5 * DAY + 1815),
    ],
)
def test_walltime_means_what_slurm_means(text: str, seconds: float) -> None:
    assert parse_walltime(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1h", "1:2:3:4", "1-", "-5", "0", "00:00:00", "UNLIMITED", "1-1-1", "9" * 60]
)
def test_walltime_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_walltime(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("10min", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 2 * DAY),
        ("PT5M", 300),
        ("90", 5400),
        ("1:00:00", 3600),
    ],
)
def test_time_limits_take_every_form(text: str, seconds: float) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "1.2.3h", "soon", "1h1h", "."])
def test_time_limits_refuse(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time_limit(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("TERM", "SIGTERM"), ("SIGUSR1", "SIGUSR1"), ("hup", "SIGHUP"), ("15", "SIGTERM"), (" INT ", "SIGINT")],
)
def test_signals_get_their_full_name(text: str, name: str) -> None:
    assert parse_signal(text) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TRM", "did you mean SIGTERM"),
        ("STOP", "does not ask"),
        ("99", "no signal number 99"),
        ("", "no signal"),
    ],
)
def test_signals_refuse(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("TERM", SignalSpec("SIGTERM", 60, False)),
        ("B:TERM@300", SignalSpec("SIGTERM", 300, True)),
        ("R:USR1@0", SignalSpec("SIGUSR1", 0, False)),
        ("10@65535", SignalSpec("SIGUSR1", 65535, False)),
    ],
)
def test_signal_specifications(text: str, spec: SignalSpec) -> None:
    assert parse_signal_spec(text) == spec


@pytest.mark.parametrize("text", ["", "B:", "X:TERM", "TERM@", "TERM@65536", "TERM@-1", "TERM@1.5", "NOPE@3"])
def test_signal_specifications_refuse(text: str) -> None:
    with pytest.raises(ValueError):
        parse_signal_spec(text)


@given(st.text())
def test_value_parsers_raise_nothing_else(text: str) -> None:
    for parse in (
        parse_memory,
        parse_duration,
        parse_walltime,
        parse_time_limit,
        parse_signal,
        parse_signal_spec,
    ):
        with contextlib.suppress(ValueError):
            parse(text)


def test_light_modules_load_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from torc_supervise.workflow import model, memory, duration, walltime, signals\n"
        "heavy = {'pydantic', 'ruamel', 'ruamel.yaml'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
