"""Lines of sbatch options: read as sbatch reads them, ours refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.workflow.sbatch import OURS, long_name, parse_options
from torc_supervise.workflow.spec_slurm import parse_extra


def words(line: str) -> list[str]:
    return [option.word for option in parse_options(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--signal=B:TERM@300", ["--signal=B:TERM@300"]),
        ("--signal TERM --exclusive", ["--signal=TERM", "--exclusive"]),
        ("--exclusive=user", ["--exclusive=user"]),
        ("-N2 -c 4 -t 1:00:00", ["--nodes=2", "--cpus-per-task=4", "--time=1:00:00"]),
        ("-HQ -p short", ["--hold", "--quiet", "--partition=short"]),
        ("--part short", ["--partition=short"]),
        ("--comment='a b' # not this", ["--comment=a b"]),
        ("--comment -x", ["--comment=-x"]),
        ("--nice --hold", ["--nice", "--hold"]),
        ("--brand-new 5 --other-new", ["--brand-new=5", "--other-new"]),
        ("", []),
    ],
)
def test_a_line_is_read_as_sbatch_reads_it(line: str, expected: list[str]) -> None:
    assert words(line) == expected


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--output=x", "--output cannot be given"),
        ("-o x", "--output cannot be given"),
        ("--out x", "--output cannot be given"),
        ("--workdir=/tmp", "--chdir cannot be given"),
        ("-a 1-3", "--array cannot be given"),
        ("-Hd afterok:1", "--dependency cannot be given"),
        ("--comment='a", "no closing quotation"),
        ("short", "'short' is not an sbatch option"),
        ("-Y", "sbatch has no option -Y"),
        ("-N1 : -N2", "heterogeneous"),
        ("--", "'--' is not an sbatch option"),
        ("--=x", "'--=x' is not an sbatch option"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_options(line)


def test_every_option_of_ours_is_refused() -> None:
    for name in OURS:
        with pytest.raises(ValueError, match=f"--{name} cannot be given"):
            parse_options(f"--{name}=x")


def test_an_abbreviation_is_completed_only_where_it_is_certain() -> None:
    assert long_name("partit") == "partition"
    assert long_name("mem") == "mem", "it is an option itself"
    assert long_name("mem-per") == "mem-per", "two begin so"


@pytest.mark.parametrize(
    "extra", ["--x --signal NOPE", "--signal", "--signal=", "--hold --signal='USR1@70000'"]
)
def test_a_signal_among_others_is_checked(extra: str) -> None:
    with pytest.raises(ValueError):
        parse_extra(extra)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_options(text)
    except ValueError:
        pass
