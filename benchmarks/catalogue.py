"""All measures, by name.  Those that leave workflows behind come before those that read them."""

from __future__ import annotations

from benchmarks.measure import Measure
from benchmarks.measures import commands, core, fan_out, hop, idle, kill, launch_rate, recorded, size


def measures(*, quick: bool = False) -> dict[str, Measure]:
    """``quick``: smaller sizes; figures are good for a look, and for finding out that something is broken."""
    found = [
        *launch_rate.measures(quick=quick),
        *fan_out.measures(),
        *kill.measures(),
        hop.MEASURE,
        recorded.MEASURE,
        commands.START_UP,
        *size.measures(),
        *commands.status_measures(),
        size.REPLAY,
        idle.measure(10.0 if quick else 60.0),
        core.MEASURE,
    ]
    return {measure.name: measure for measure in found if not (quick and measure.long)}
