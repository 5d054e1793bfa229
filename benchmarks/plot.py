"""Bars as SVG, enough for a page in docs/."""

from __future__ import annotations

import html
from collections.abc import Sequence

LEFT, WIDTH, STEP = 190, 420, 28
OURS, FLOOR, OTHERS = "#2b6cb0", "#4a5568", "#a0aec0"


def bars(title: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Horizontal bars: label, value, lowest and highest; a line goes from the lowest to the highest."""
    largest = max((high for *_, high in rows), default=1.0) or 1.0
    height = STEP * len(rows) + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 110}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18" font-weight="bold">{html.escape(title)}</text>',
    ]
    for i, (label, value, lowest, highest) in enumerate(rows):
        y = 30 + i * STEP
        bar, low, high = (each / largest * WIDTH for each in (value, lowest, highest))
        colour = OURS if label == "ours" else FLOOR if label.startswith("C ") else OTHERS
        out += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{bar:.1f}" height="20" fill="{colour}"/>',
            f'<line x1="{LEFT + low:.1f}" x2="{LEFT + high:.1f}" y1="{y + 10}" y2="{y + 10}" stroke="black"/>',
            f'<text x="{LEFT + high + 6:.1f}" y="{y + 15}">{number(value)}</text>',
        ]
    return "\n".join([*out, "</svg>"]) + "\n"


def number(value: float) -> str:
    """Three digits that count; whole numbers whole."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
