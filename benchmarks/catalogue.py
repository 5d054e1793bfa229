"""All measures, by name."""

from __future__ import annotations

from benchmarks.measure import Measure
from benchmarks.measures import commands, core, fan_out, hop, idle, launch_rate, size


def measures() -> dict[str, Measure]:
    found = [
        launch_rate.MEASURE,
        *fan_out.measures(),
        hop.MEASURE,
        *commands.measures(),
        idle.MEASURE,
        *size.measures(),
        core.MEASURE,
    ]
    return {measure.name: measure for measure in found}
