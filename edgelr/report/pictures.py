"""The report's two pictures, as SVG text: kept share of every layer, latency of every variant.

Horizontal bars with their figure next to them: the picture is also readable without color.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

INK = "#1c2733"
FACTORED, DENSE = "#2563ad", "#b9c2cc"
BASELINE_COLORS = {"dense-int8": "#8a97a6", "dense-fp32": DENSE}
ROW_HEIGHT, LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 18, 330, 320, 160


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: its label at the left, its length, the text at its right end, and its color."""

    label: str
    value: float
    text: str
    color: str


def layers_picture(layers: Sequence[dict[str, Any]]) -> str:
    """Draw the kept share and the rank of every layer.

    Args:
        layers: The ``layers`` of a report.

    Returns:
        An SVG document.
    """
    bars = []
    for row in layers:
        dense = row["rank"] is None
        text = "dense" if dense else f"{row['kept_share']:.2f}, {row['form']} {row['rank']}"
        bars.append(
            Bar(label=row["name"], value=row["kept_share"], text=text, color=DENSE if dense else FACTORED)
        )
    return bar_chart("Kept share of every layer (1 = dense)", bars)


def latency_picture(latency: Sequence[dict[str, Any]]) -> str:
    """Draw the median latency of every variant, device and shape.

    Args:
        latency: The ``latency`` rows of a report, in its order.

    Returns:
        An SVG document.
    """
    bars = []
    for row in latency:
        time = "not measured" if row["p50_ms"] is None else f"{row['p50_ms']:.2f} ms ({row['evidence']})"
        label = f"{row['device']}, {row['shape']}: {row['variant']}"
        color = BASELINE_COLORS.get(row["variant"], FACTORED)
        bars.append(Bar(label=label, value=row["p50_ms"] or 0.0, text=time, color=color))
    return bar_chart("Median latency (ms, shorter is better)", bars)


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Draw horizontal bars, all in scale to the longest.

    Args:
        title: What is shown, and its unit.
        bars: From top to bottom.

    Returns:
        An SVG document, white behind, so that it reads on a dark page too.
    """
    width, height = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, (len(bars) + 2) * ROW_HEIGHT
    longest = max((bar.value for bar in bars), default=0.0) or 1.0
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" role="img"',
        f'  font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect {size} fill="#ffffff"/>',
        f'<text x="8" y="{ROW_HEIGHT - 4}" font-weight="bold">{escape(title)}</text>',
    ]
    for index, bar in enumerate(bars, start=1):
        top, length = index * ROW_HEIGHT + 8, bar.value / longest * BAR_WIDTH
        base, thick = top + ROW_HEIGHT - 8, ROW_HEIGHT - 4
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{length:.1f}" height="{thick}" fill="{bar.color}"/>',
            f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{base}">{escape(bar.text)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
