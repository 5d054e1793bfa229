"""What a job costs when there are many: it must not grow with their number."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import workflows
from benchmarks.measure import Measure, Once, Values


def _run(count: int) -> Once:
    def once(directory: Path) -> Values:
        path = workflows.sweep(directory, count, "true")
        process = workflows.start(directory, path, 16)
        began = time.perf_counter()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        assert process.returncode == 0
        return {"us_per_job": seconds / count * 1e6, "max_rss_mb": usage.ru_maxrss / 1e3}

    return once


def _replay(directory: Path) -> Values:
    from torc_supervise.store.journal import replay

    count = 20_000
    workflows.run(directory, workflows.sweep(directory, count, "true"), 16)
    journal = directory / "torc_output" / "workflows" / "1" / "events.jsonl"
    began = time.perf_counter()
    replay(os.fspath(journal))
    seconds = time.perf_counter() - began
    return {"s_per_100000_jobs": seconds / count * 1e5, "bytes_per_job": journal.stat().st_size / count}


def measures() -> Iterator[Measure]:
    for count, repeat in ((100, 5), (1000, 5), (10_000, 1), (100_000, 1)):
        yield Measure(
            f"cost_{count}",
            f"a run of {count} short jobs, 16 at a time: time and peak memory of the supervisor",
            "",
            {"ours": _run(count)},
            repeat=repeat,
            targets={"us_per_job": "with 100,000 jobs within 10 % of 1,000", "max_rss_mb": "below 300"},
        )
    yield Measure("replay", "reading a journal back", "", {"ours": _replay}, repeat=1)
