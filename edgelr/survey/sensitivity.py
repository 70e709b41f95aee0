"""How much the model's output depends on a site or a group: reduce it alone, measure what changes.

Relative energy alone is no better a guide to ranks than giving every layer the same share. What the allocator
trades is the change of the output per unit of dropped energy, and that is measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgelr.structure import Sensitivity

SMALLEST_CHANGE = 1e-9  # what changes nothing measurable still has some worth


def sensitivity(points: Sequence[tuple[float, float]]) -> Sensitivity:
    """From (dropped energy, measured change): rising in both; no point where nothing is dropped.

    A larger drop that changes less is noise of the few examples; it counts as the larger change.
    """
    rising: list[tuple[float, float]] = []
    for energy, change in sorted(points):
        if energy > 0 and (not rising or energy > rising[-1][0]):
            rising.append((energy, max(change, rising[-1][1]) if rising else change))
    return Sensitivity(points=tuple(rising))


def probe_ranks(full: int, points: int) -> list[int]:
    """Ranks to measure at: spread evenly over (0, full), the middle one when there is only one."""
    return sorted({max(1, round(full * (number + 1) / (points + 1))) for number in range(points)})
