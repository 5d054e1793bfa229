"""Results are what was put in, however they are kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.machine.records import JobEnded
from torc_supervise.machine.results import Results

some_text = st.text() | st.none()
numbers = st.none() | st.integers(0, 2**62)
figures = st.none() | st.floats(allow_nan=False)
ends = st.builds(
    JobEnded,
    run_id=st.integers(1, 1000),
    job_id=st.integers(1, 50),
    attempt_id=st.integers(1, 1000),
    status=st.sampled_from(["completed", "failed"]),
    ended=st.text(),
    return_code=st.none() | st.integers(0, 255),
    signal=some_text,
    why=some_text,
    start_time=some_text,
    exec_time_seconds=figures,
    max_rss_bytes=numbers,
    max_rss_is_bound=st.none() | st.booleans(),
    peak_cpu_percent=figures,
    leftovers=numbers,
    missing_outputs=st.none() | st.lists(st.text()).map(tuple),
    outputs_seen=st.none() | st.dictionaries(st.text(), st.integers(0, 2**62)),
    checkpoint=some_text,
    error=some_text,
)


@given(st.lists(st.tuples(ends, st.booleans())), st.sets(st.integers(1, 50)))
def test_they_are_a_mapping_from_job_ids(steps: list[tuple[JobEnded, bool]], kept: set[int]) -> None:
    results, plain = Results(), {}
    for ended, goes in steps:
        results[ended.job_id] = plain[ended.job_id] = ("t", ended)
        if goes:
            assert results.pop(ended.job_id) == plain.pop(ended.job_id)
        assert len(results) == len(plain)
    assert dict(results) == plain
    assert list(results) == sorted(plain)
    results.keep_only(kept)
    assert dict(results) == {job_id: result for job_id, result in plain.items() if job_id in kept}


def test_there_is_none_of_a_job_that_has_not_ended() -> None:
    results = Results()
    results[3] = ("t", JobEnded(1, 3, 1, "completed", "exited"))
    for job_id in (2, 4):
        assert results.get(job_id) is None
        assert job_id not in results
        with pytest.raises(KeyError):
            del results[job_id]


@pytest.mark.parametrize("what", [{"checkpoint": "caf\udce9"}, {"outputs_seen": {"out": 2**65}}])
def test_what_cannot_be_packed_is_kept_as_it_is(what: dict[str, Any]) -> None:
    """A path that is not UTF-8; a file from the year 3000, as touch(1) makes it."""
    results, ended = Results(), JobEnded(1, 1, 1, "failed", "exited", **what)
    results[1] = ("t", ended)
    assert results[1] == results.copy()[1] == ("t", ended)
    assert (len(results), 1 in results, results.pop(1)) == (1, True, ("t", ended))
    assert -1 not in results
