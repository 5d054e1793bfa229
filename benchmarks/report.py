"""The report: docs/performance.md and one SVG plot a measure that compares, made from results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.plot import bars, number
from benchmarks.targets import Verdict, verdicts

PARTS = (
    ("launch_rate_*", "hop", "recorded", "start_up", "status_10", "status_1000", "core", "idle"),
    ("fan_out_*", "kill_500"),
    ("cost_*", "status_100000", "replay"),
)
"""Measures that are run together: a few minutes each, and none is compared with one of another part."""

_INTRODUCTION = """# Performance

Made by `python -m benchmarks report` from results of `python -m benchmarks run`; not edited by hand.

What others could use instead and the physical limit (small C programs in `benchmarks/floors/` that do the bare work)
are measured in the same run as ours, in turn (A B C A B C ...), so that a machine that drifts does so for all of them.
Figures are medians, with the lowest and the highest in brackets. Children are the same program under every subject,
and take their time stamps themselves. Everything is on that keeps a job's result when something breaks: journal with
fsync, one session and, where allowed, one cgroup a job.
"""

_QUICK = "\nFrom a quick run: small sizes, one turn each. Good for a look, not for a claim.\n"

_AGAIN = """## To measure again

On an idle machine with a C compiler, from the project's directory:

```console
$ scripts/venv .venv dev && . .venv/bin/activate
$ scripts/benchmark-peers                             # optional: installs what ours is compared with
$ python -m benchmarks run --quick --output look.json # a look, some minutes
{parts}
$ python -m benchmarks report {files}
$ python -m benchmarks compare before.json after.json # figure by figure
```

`python -m benchmarks list` names all measures; each can be run by itself. How much work a job takes, counted instead of
timed, is what tests watch: see [development](development.md).
"""


def write(results: list[dict[str, Any]], docs: Path) -> None:
    """Write ``performance.md`` and ``performance/*.svg`` below ``docs``."""
    plots = docs / "performance"
    plots.mkdir(exist_ok=True)
    measures: dict[str, Any] = {}
    warning = _QUICK if any(result.get("quick") for result in results) else ""
    for result in results:
        measures |= result["measures"]
    parts = [_INTRODUCTION, _machine(results[0]["machine"]) + warning, _targets(verdicts(measures))]
    for name, measure in measures.items():
        parts.append(_section(name, measure))
        if plot := _plot(name, measure):
            (plots / f"{name}.svg").write_text(plot, encoding="utf-8")
            parts.append(f"![{name}](performance/{name}.svg)\n")
    parts.append(_again())
    (docs / "performance.md").write_text("\n".join(parts), encoding="utf-8")


def _again() -> str:
    """The commands, part by part."""
    files = [f"part{number}.json" for number in range(1, len(PARTS) + 1)]
    lines = [
        f"$ python -m benchmarks run {' '.join(repr(name) if '*' in name else name for name in names)} --output {file}"
        for names, file in zip(PARTS, files, strict=True)
    ]
    return _AGAIN.format(parts="\n".join(lines), files=" ".join(files))


def _machine(facts: dict[str, Any]) -> str:
    memory = facts["memory_bytes"] / (1 << 30)
    return (
        f"Machine: {facts['cores']} cores ({facts['cpu']}), {memory:.0f} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}, {facts.get('file_system', '?')} for the jobs' files, "
        f"load before it began {facts['load'][0]}.\n"
    )


def _targets(found: list[Verdict]) -> str:
    lines = [
        "## What was to be reached\n",
        "| measure | figure | wanted | ours | reference | ratio | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for each in found:
        said = {True: "reached", False: "**not reached**", None: "not measured"}[each.reached]
        cells = ["" if value is None else number(value) for value in (each.ours, each.reference)]
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        lines.append(
            f"| {each.measure} | `{each.figure}` | {each.wanted} | {cells[0]} | {cells[1]} | {ratio} | {said} |"
        )
    return "\n".join(lines) + "\n"


def _section(name: str, measure: dict[str, Any]) -> str:
    figures = list(dict.fromkeys(f for found in measure["subjects"].values() for f in found))
    unit = f" ({measure['unit']})" if measure["unit"] else ""
    lines = [f"## {name}\n", f"{measure['what'][0].upper()}{measure['what'][1:]}{unit}.\n"]
    lines.append(f"| | {' | '.join(figures)} |")
    lines.append("|---|" + "---:|" * len(figures))
    for subject, found in measure["subjects"].items():
        cells = [_cell(found[figure]) if figure in found else "" for figure in figures]
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- `{figure}`: {note}" for figure, note in measure["notes"].items() if figure in figures]
    if measure["not_installed"]:
        lines.append(f"- Not installed here: {', '.join(measure['not_installed'])}.")
    lines += [f"- {subject} could not do it: {why}" for subject, why in measure["failed"].items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _cell(figure: dict[str, Any]) -> str:
    median, low, high = (number(figure[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def _plot(name: str, measure: dict[str, Any]) -> str | None:
    """None where there is nothing to compare with."""
    figure = measure["headline"] or next(iter(next(iter(measure["subjects"].values()), {})), "")
    rows = [
        (subject, found[figure]["median"], found[figure]["low"], found[figure]["high"])
        for subject, found in measure["subjects"].items()
        if figure in found
    ]
    title = (
        f"{name}: {figure}{', ' + measure['unit'] if measure['unit'] else ''} ({measure['better']} is better)"
    )
    return bars(title, rows) if len(rows) > 1 else None
