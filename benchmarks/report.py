"""The report: docs/performance.md and one SVG plot a measure that compares, made from a result."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

HEADLINE = {"launch_rate": "8_at_a_time", "hop": "median_ms"}
"""The figure of each measure that is plotted; elsewhere ``last_ms`` or the first."""

_INTRODUCTION = """# Performance

Made by `python -m benchmarks report` from a result of `python -m benchmarks run`; not edited by hand. To measure
again, on an idle machine, from the project's directory:

```console
$ scripts/benchmark-peers                             # optional: installs what ours is compared with
$ python -m benchmarks run --output result.json
$ python -m benchmarks report result.json
```

All subjects of a measure are measured in turn (A B C A B C ...), so that a machine that drifts does so for all of
them. The figures are medians, with the lowest and the highest in brackets.
"""


def write(result: dict[str, Any], docs: Path) -> None:
    """Write ``performance.md`` and ``performance/*.svg`` below ``docs``."""
    plots = docs / "performance"
    plots.mkdir(exist_ok=True)
    parts = [_INTRODUCTION, _machine(result["machine"])]
    for name, measure in result["measures"].items():
        parts.append(_section(name, measure))
        if len(measure["subjects"]) > 1:
            (plots / f"{name}.svg").write_text(_plot(name, measure))
            parts.append(f"![{name}](performance/{name}.svg)\n")
    (docs / "performance.md").write_text("\n".join(parts))


def _machine(facts: dict[str, Any]) -> str:
    memory = facts["memory_bytes"] / (1 << 30)
    return (
        f"Machine: {facts['cores']} cores ({facts['cpu']}), {memory:.0f} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}, load before it began {facts['load'][0]}.\n"
    )


def _section(name: str, measure: dict[str, Any]) -> str:
    figures = list(dict.fromkeys(f for found in measure["subjects"].values() for f in found))
    lines = [f"## {name}\n", f"{measure['what'][0].upper()}{measure['what'][1:]}.\n"]
    for figure, target in measure["targets"].items():
        lines.append(f"Target for `{figure}`: {target}.\n")
    lines.append(f"| | {' | '.join(figures)} |")
    lines.append("|---|" + "---:|" * len(figures))
    for subject, found in measure["subjects"].items():
        cells = [_cell(found[figure]) if figure in found else "" for figure in figures]
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    if measure["not_installed"]:
        lines.append(f"\nNot installed here: {', '.join(measure['not_installed'])}.")
    return "\n".join(lines) + "\n"


def _cell(figure: dict[str, Any]) -> str:
    median, low, high = (_number(figure[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _headline(name: str, measure: dict[str, Any]) -> str:
    figures = next(iter(measure["subjects"].values()))
    wanted = HEADLINE.get(name, "last_ms")
    return wanted if wanted in figures else next(iter(figures))


def _plot(name: str, measure: dict[str, Any]) -> str:
    """Horizontal bars, with a line from the lowest to the highest."""
    figure = _headline(name, measure)
    rows = [(subject, found[figure]) for subject, found in measure["subjects"].items() if figure in found]
    largest = max((row["high"] for _, row in rows), default=1.0) or 1.0
    left, width, step = 170, 420, 28
    height = step * len(rows) + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<text x="8" y="18" font-weight="bold">{html.escape(f"{name}: {figure}")} '
        f"({html.escape(measure['unit'] or 'see the table')}, {measure['better']} is better)</text>",
    ]
    for i, (subject, row) in enumerate(rows):
        y = 30 + i * step
        bar, low, high = (row[key] / largest * width for key in ("median", "low", "high"))
        colour = "#2b6cb0" if subject == "ours" else "#a0aec0"
        out += [
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{html.escape(subject)}</text>',
            f'<rect x="{left}" y="{y}" width="{bar:.1f}" height="20" fill="{colour}"/>',
            f'<line x1="{left + low:.1f}" x2="{left + high:.1f}" y1="{y + 10}" y2="{y + 10}" stroke="black"/>',
            f'<text x="{left + high + 6:.1f}" y="{y + 15}">{_number(row["median"])}</text>',
        ]
    return "\n".join([*out, "</svg>"]) + "\n"
