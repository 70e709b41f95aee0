"""Line charts as SVG text: a plan's curve, the spectra of its layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from edgelr.report.pictures import INK

WIDTH, HEIGHT, MARGIN = 720, 400, 64
TICKS = 5
MOST_MARKS = 12  # a line of more points is read as a line
# Told apart without color vision too, and on white.
COLORS = ("#2563ad", "#c2410c", "#15803d", "#7c3aed", "#b45309", "#0e7490")
Line = Sequence[tuple[float, float]]


def curve_picture(curve: Line, kept_share: float, predicted_loss: float) -> str:
    """Draw the expected change of the output against the kept share, with the plan's own point.

    Args:
        curve: (kept share, expected change), the share rising.
        kept_share: The plan's.
        predicted_loss: The plan's.

    Returns:
        An SVG document.
    """
    title = "Expected change of the output, before tuning, by kept share"
    chart = _Chart(title, {"other budgets": curve, "this plan": [(kept_share, predicted_loss)]}, log=False)
    return chart.svg("kept share of the parameters", "expected change")


def spectra_picture(spectra: Mapping[str, Sequence[float]]) -> str:
    """Draw which share of each layer's energy is lost at which share of its full rank.

    Args:
        spectra: Kind of layer -> mean energies, largest first, of as many layers as there are.

    Returns:
        An SVG document.
    """
    lines = {}
    for name, energies in spectra.items():
        total, full = sum(energies), len(energies)
        left = total
        line = [(0.0, 1.0)]
        for rank, energy in enumerate(energies, start=1):
            left -= energy
            if total > 0 and left / total > SMALLEST_SHARE:
                line.append((rank / full, left / total))
        lines[name] = line
    chart = _Chart("Energy lost by rank, for each kind of layer", lines, log=True)
    return chart.svg("rank / full rank", "lost share of the energy")


SMALLEST_SHARE = 1e-4  # of the energy: below that a line says nothing about ranks


class _Chart:
    """Scales of a chart, and its parts."""

    def __init__(self, title: str, lines: Mapping[str, Line], *, log: bool) -> None:
        self.title, self.lines, self.log = title, lines, log
        points = [point for line in lines.values() for point in line] or [(0.0, 1.0)]
        self.right = max(x for x, _ in points) or 1.0
        self.top = 1.0 if log else max(y for _, y in points) or 1.0

    def x(self, value: float) -> float:
        return MARGIN + value / self.right * (WIDTH - 2 * MARGIN)

    def y(self, value: float) -> float:
        share = value / self.top
        if self.log:
            share = 1 - math.log10(max(value, SMALLEST_SHARE)) / math.log10(SMALLEST_SHARE)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    def svg(self, x_label: str, y_label: str) -> str:
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
            f'  font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
            f"<title>{escape(self.title)}</title>",
            f'<rect {size} fill="#ffffff"/>',
            f'<text x="8" y="18" font-weight="bold">{escape(self.title)}</text>',
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 16}" text-anchor="middle">{escape(x_label)}</text>',
            f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" '
            f'transform="rotate(-90 16 {HEIGHT / 2})">{escape(y_label)}</text>',
            *self._axes(),
        ]
        for number, (name, line) in enumerate(self.lines.items()):
            parts += self._line(name, line, COLORS[number % len(COLORS)], number)
        return "\n".join([*parts, "</svg>", ""])

    def _axes(self) -> list[str]:
        parts = []
        for tick in range(TICKS):
            share = tick / (TICKS - 1)
            x, value = self.x(share * self.right), self._value(share)
            y = self.y(value)
            parts += [
                f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">'
                f"{share * self.right:.2g}</text>",
                f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2g}</text>',
                f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#dde3e9"/>',
            ]
        return parts

    def _value(self, share: float) -> float:
        return float(SMALLEST_SHARE ** (1 - share)) if self.log else share * self.top

    def _line(self, name: str, line: Line, color: str, number: int) -> list[str]:
        places = [(f"{self.x(x):.1f}", f"{self.y(y):.1f}") for x, y in line]
        key = MARGIN + 12 + 16 * number
        path = " ".join(map(",".join, places))
        marks = [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{color}"/>' for x, y in places]
        return [
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
            *(marks if len(marks) <= MOST_MARKS else []),
            f'<rect x="{WIDTH - MARGIN - 190}" y="{key - 9}" width="10" height="10" fill="{color}"/>',
            f'<text x="{WIDTH - MARGIN - 174}" y="{key}">{escape(name)}</text>',
        ]
