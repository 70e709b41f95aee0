"""The history of comparisons: one line of JSON each, ratios and where they are from, never a time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgelr.compare.picture import GRID, INK, LEFT, MUTED, OUTCOMES, PLOT, head, line, text, ticks
from edgelr.compare.statistics import Outcome
from edgelr.errors import DataError, UsageError

ROW_HEIGHT = 110


@dataclass(frozen=True, kw_only=True)
class Past:
    """One comparison of the past.

    Attributes:
        when: ISO 8601.
        host: Fingerprint of the machine and its versions.
        device: Name of the profile.
        outcome: What it found.
        base: What was compared with.
        candidate: What was compared.
        ratios: Quantity -> ratio of candidate to base; None where the base had nothing.
        versions: Of what measured it.
        restarts: That it is from.
    """

    when: str
    host: str
    device: str
    outcome: Outcome
    base: str
    candidate: str
    ratios: dict[str, float | None]
    versions: dict[str, str]
    restarts: int


def read_history(path: Path) -> list[Past]:
    """Read a history, the oldest first.

    Args:
        path: As ``edgelr compare --history`` appends to it.

    Raises:
        UsageError: There is no such file.
        DataError: It is empty, or a line is not one of a comparison; it is named.
    """
    if not path.is_file():
        raise UsageError(f"there is no history at {path}", "edgelr compare --history writes one")
    kind, found = TypeAdapter(Past), []
    for number, words in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            found.append(kind.validate_python(json.loads(words)))
        except (ValidationError, json.JSONDecodeError) as error:
            reason = (
                str(error).splitlines()[-1].strip()
                if isinstance(error, json.JSONDecodeError)
                else _first(error)
            )
            raise DataError(
                f"{path}:{number}: no line of a comparison: {reason}", "delete that line"
            ) from error
    if not found:
        raise DataError(f"{path} is empty", "edgelr compare --history appends to it")
    return found


def table(history: list[Past]) -> list[tuple[str, ...]]:
    """Cells of a table, its heading first."""
    heading = ("when", "device", "host", "p50", "p90", "memory", "bytes", "restarts", "outcome")
    rows = [
        (
            each.when,
            each.device,
            each.host[:6],
            *(_ratio(each.ratios.get(name)) for name in ("p50", "p90", "memory", "bytes")),
            f"{each.restarts}",
            each.outcome,
        )
        for each in history
    ]
    return [heading, *rows]


def trend_picture(history: list[Past]) -> str:
    """Draw the ratio of p50 of every comparison, in order, a row for each device.

    A ratio is to its own base: changes do not add up from one to the next unless each base is the last
    candidate.

    Args:
        history: At least one.

    Returns:
        An SVG document.
    """
    by_device = [list(rows) for _, rows in groupby(sorted(history, key=lambda each: each.device), _device)]
    height = 40 + ROW_HEIGHT * len(by_device)
    parts = [
        *head(height, "Latency of every candidate, as a ratio to its base"),
        text(8, 18, "Candidate to base (p50), every comparison, the oldest at the left", bold=True),
    ]
    for number, rows in enumerate(by_device):
        parts += _device_row(rows, 32 + number * ROW_HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def _device_row(rows: list[Past], top: float) -> list[str]:
    known = [(number, each, each.ratios.get("p50")) for number, each in enumerate(rows)]
    dots = [
        (number, each, ratio) for number, each, ratio in known if ratio is not None and math.isfinite(ratio)
    ]
    ratios = [ratio for _, _, ratio in dots] or [1.0]
    low, high = min(*ratios, 0.98) - 0.01, max(*ratios, 1.02) + 0.01
    height = ROW_HEIGHT - 24

    def y(ratio: float) -> float:
        return top + (high - ratio) / (high - low) * height

    parts = [text(8, top + 12, rows[0].device, color=MUTED)]
    for value in ticks(low, high, 4):
        parts.append(line(LEFT, y(value), LEFT + PLOT, y(value), INK if abs(value - 1) < 1e-9 else GRID))
        parts.append(text(LEFT - 8, y(value) + 4, f"×{value:.4g}", anchor="end", color=MUTED))
    for number, each, ratio in dots:
        x = LEFT + (number + 0.5) / len(rows) * PLOT
        shape = (
            f'fill="{OUTCOMES[each.outcome]}"'
            if each.outcome != "inconclusive"
            else (f'fill="#ffffff" stroke="{OUTCOMES[each.outcome]}"')
        )
        label = f"<title>{escape(f'{each.when}: {each.outcome}, ×{ratio:.3f}')}</title>"
        size = 6 if each.outcome == "regression" else 4
        parts.append(f'<circle cx="{x:.1f}" cy="{y(ratio):.1f}" r="{size}" {shape}>{label}</circle>')
    return parts


def _device(each: Past) -> str:
    return each.device


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"×{value:.3f}"


def _first(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
