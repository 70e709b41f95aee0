"""How much the model's output depends on a site or a group: reduce it alone, measure what changes.

Relative energy alone is no better a guide to ranks than giving every layer the same share. What the allocator
trades is the change of the output per unit of dropped energy, and that is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from edgelr.lowrank.reduce import reduce_sites, restore
from edgelr.lowrank.statistics import Statistics
from edgelr.recipe.schema import Factors
from edgelr.structure import Reduction, Sensitivity

SMALLEST_CHANGE = 1e-9  # what changes nothing measurable still has some worth


@torch.inference_mode()
def measure_change(
    model: nn.Module,
    reduction: Reduction,
    statistics: Statistics,
    method: Factors,
    change: Callable[[], float],
) -> float:
    """Mean change of the output over some examples when only one reduction is carried out.

    Args:
        model: The dense model; as before on return.
        reduction: Of a site or of a group's heads.
        statistics: Of its sites.
        method: How factors are chosen.
        change: Runs the model on the examples; the mean change against the dense outputs.
    """
    before = reduce_sites(model, reduction, statistics, method, {})
    try:
        return max(change(), SMALLEST_CHANGE)
    finally:
        restore(model, before)


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
