"""A comparison as a picture: the times of both sides, and what each restart said of their ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from edgelr.compare.check import Comparison

INK, MUTED, GRID = "#1c2733", "#66727f", "#dde3e9"
BASE, CANDIDATE = "#8a97a6", "#2563ad"
OUTCOMES = {"pass": "#2f7d4f", "regression": "#b3261e", "inconclusive": "#8a6d1f"}
WIDTH, HEIGHT, LEFT, PLOT = 720, 372, 110, 580
BINS = 60
TOLD = 0.02  # share of the calls that are not in the picture
WIDEST = 1.5  # times the slower median: where the picture of the calls ends at the latest


def comparison_picture(found: Comparison, device: str) -> str:
    """Draw both distributions, and the ratio of every restart with its interval, noise floor and limit.

    Args:
        found: The comparison.
        device: Name of the profile.

    Returns:
        An SVG document, white behind, so that it reads on a dark page too; nothing is said by color alone.
    """
    parts = [
        *head(HEIGHT, f"Latency of candidate and base on {device}: {found.outcome}"),
        text(8, 18, f"Time of a call on {device} (ms), all restarts", bold=True),
        *_distributions(found),
        text(8, 222, "Ratio to the base (p50), one dot a restart", bold=True),
        *_ratios(found),
    ]
    return "\n".join([*parts, "</svg>", ""])


def head(height: int, title: str) -> list[str]:
    """How a picture of this width begins."""
    size = f'width="{WIDTH}" height="{height}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" role="img"',
        f'  font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect {size} fill="#ffffff"/>',
    ]


def text(
    x: float, y: float, words: str, *, anchor: str = "start", color: str = INK, bold: bool = False
) -> str:
    """A line of text; ``anchor`` says which end of it is at ``x``."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, color: str, *, dashed: bool = False) -> str:
    """A straight line."""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}"{dashes}/>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most so many."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def _distributions(found: Comparison) -> list[str]:
    """Histograms as outlines; what was interrupted for long is counted, not drawn."""
    both = [sorted(times) for times in found.times_ms]
    low = min(times[0] for times in both)
    high = max(times[min(len(times) - 1, math.ceil(0.99 * len(times)))] for times in both)
    high = max(min(high, WIDEST * max(found.p50_ms)), low * 1.01)
    parts = _axis(low, high, 176, lambda value: f"{value:g}")
    peak = max(max(_shares(times, low, high)) for times in both)
    names = (("base", BASE), ("candidate", CANDIDATE))
    for row, ((name, color), times, middle) in enumerate(zip(names, both, found.p50_ms, strict=True)):
        steps = []
        for number, share in enumerate(_shares(times, low, high)):
            left, top = LEFT + number * PLOT / BINS, 176 - share / peak * 112
            steps += [f"{left:.1f},{top:.1f}", f"{left + PLOT / BINS:.1f},{top:.1f}"]
        outline = " ".join([f"{LEFT},176", *steps, f"{LEFT + PLOT},176"])
        parts.append(f'<polygon points="{outline}" fill="{color}" fill-opacity="0.25" stroke="{color}"/>')
        place = LEFT + (middle - low) / (high - low) * PLOT
        parts.append(line(place, 58, place, 176, color, dashed=row == 0))
        longer = sum(time > high for time in times) / len(times)
        beyond = f", {longer:.1%} beyond this picture" if longer > TOLD else ""
        words = f"{name}: p50 {middle:.3g} ms{beyond}"
        parts.append(text(LEFT + PLOT, 34 + 16 * row, words, anchor="end", color=color))
    return parts


def _shares(times: Sequence[float], low: float, high: float) -> list[float]:
    counts = [0] * BINS
    for time in times:
        if low <= time <= high:
            counts[min(BINS - 1, int((time - low) / (high - low) * BINS))] += 1
    return [count / len(times) for count in counts]


def _ratios(found: Comparison) -> list[str]:
    """Dots of candidate and twin, the interval, and where no regression may be."""
    row = found.rows[0]
    sides = [[math.exp(value) for value in values] for values in found.log_ratios]
    bound, noise = row.bound or 1.0, row.noise or 0.0
    ends = [row.ratio if end is None else end for end in (row.low, row.high)]
    everything = sorted([*sides[0], *sides[1], *ends, bound, 1 + noise, 1 - noise])
    margin = 0.02 * (everything[-1] - everything[0]) + 1e-3
    low, high = everything[0] - margin, everything[-1] + margin

    def x(ratio: float) -> float:
        return LEFT + (ratio - low) / (high - low) * PLOT

    color, floor = OUTCOMES[found.outcome], x(1 + noise) - x(1 - noise)
    parts = [
        f'<rect x="{x(1 - noise):.1f}" y="232" width="{floor:.1f}" height="88" fill="{GRID}"/>',
        *_axis(low, high, 320, lambda value: f"×{value:.4g}"),
        line(x(1.0), 232, x(1.0), 320, MUTED),
        line(x(bound), 232, x(bound), 320, OUTCOMES["regression"], dashed=True),
        text(x(bound), 354, f"tolerance ×{bound:.4g}", anchor="middle", color=OUTCOMES["regression"]),
        text(8, 354, "grey band: noise floor", color=MUTED),
    ]
    for top, name, ratios, fill in (
        (250, "candidate", sides[0], CANDIDATE),
        (304, "twin (A/A)", sides[1], BASE),
    ):
        parts.append(text(LEFT - 10, top + 4, name, anchor="end"))
        parts += [
            f'<circle cx="{x(r):.1f}" cy="{top}" r="4" fill="{fill}" fill-opacity="0.6"/>' for r in ratios
        ]
    parts += [line(x(ends[0]), top, x(ends[1]), top, color) for top in (273.0, 274.0, 275.0)]
    parts.append(f'<circle cx="{x(row.ratio):.1f}" cy="274" r="5" fill="{color}"/>')
    parts.append(text(LEFT - 10, 278, found.outcome, anchor="end", color=color))
    return parts


def _axis(low: float, high: float, y: float, label: Callable[[float], str]) -> list[str]:
    marks = [(LEFT + (value - low) / (high - low) * PLOT, label(value)) for value in ticks(low, high)]
    texts = [text(place, y + 16, words, anchor="middle", color=MUTED) for place, words in marks]
    return [
        line(LEFT, y, LEFT + PLOT, y, INK),
        *(line(place, y, place, y + 4, INK) for place, _ in marks),
        *texts,
    ]
