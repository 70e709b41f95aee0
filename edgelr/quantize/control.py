"""Accuracy control: keep the layers that cost most at higher precision, until a metric holds.

Layers are ordered by what each loses alone for the bytes that keeping it gives back. How many of them, from
the worst on, have to be kept is found by bisection; then, one by one, those that are not needed after all go
back, largest first. Every question is a measurement of the whole package on validation data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgelr.errors import QuantizeError
from edgelr.quantize.choice import BITS, Choice
from edgelr.recipe.quantize import LayerScheme, MaxDrop, Quantize

MOST_EVALUATIONS = 25

AllChoices = Mapping[str, Mapping[str, Choice]]
"""Role -> layer -> choice."""
Drop = Callable[[AllChoices], float]
"""What a metric loses with these choices, against the fp32 package."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Layers that read one matrix: they are kept together, or it would be stored twice.

    Attributes:
        layers: (role, name) of each.
        numbers: Of the matrix.
        scheme: What they become when they are not kept.
        change: What they lose alone, together.
    """

    layers: tuple[tuple[str, str], ...]
    numbers: int
    scheme: LayerScheme
    change: float


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """What was found.

    Attributes:
        choices: What each layer becomes.
        kept: (role, name) of those at higher precision, worst first.
        drop: What the metric loses.
        without: What it loses when none is kept.
        evaluations: How often the metric was measured.
    """

    choices: dict[str, dict[str, Choice]]
    kept: tuple[tuple[str, str], ...]
    drop: float
    without: float
    evaluations: int


@dataclass(kw_only=True)
class _Measured:
    """Measurements so far."""

    drop: Drop
    count: int = 0
    lowest: float = field(default=float("inf"))

    def of(self, choices: AllChoices) -> float:
        found = self.drop(choices)
        self.count += 1
        self.lowest = min(self.lowest, found) if not math.isnan(found) else self.lowest
        return found


def control(choices: AllChoices, units: Sequence[Unit], settings: Quantize, drop: Drop) -> Controlled:
    """Find the layers to keep.

    Args:
        choices: Of the recipe.
        units: Of the layers that may be kept: with its scheme, or with one that auto has chosen.
        settings: The recipe's section: the scheme, the metric and what it may lose.
        drop: Measures it.

    Raises:
        QuantizeError: It loses more even when all of them are kept; the closest found is named.
    """
    wanted, scheme = settings.max_drop, settings.scheme
    assert wanted is not None
    measured = _Measured(drop=drop)
    without = measured.of(choices)
    if without <= wanted.value:
        return _controlled(choices, (), without, without, measured.count)
    for level in settings.higher:
        given = {unit: unit.numbers * (BITS[level] - BITS[unit.scheme]) for unit in units}
        ordered = sorted(
            (unit for unit in units if given[unit] > 0),
            key=lambda unit: (-unit.change / given[unit], unit.layers),
        )

        def kept_at(kept: Sequence[Unit], level: LayerScheme = level) -> AllChoices:
            return _keep(choices, kept, level, wanted)

        if ordered and measured.of(kept_at(ordered)) <= wanted.value:
            kept, found = _fewest(ordered, kept_at, measured, wanted.value, given)
            layers = tuple(layer for unit in kept for layer in unit.layers)
            return _controlled(kept_at(kept), layers, found, without, measured.count)
    raise QuantizeError(
        f"quantize.max_drop: {wanted.metric} loses {measured.lowest:.4g} at least, "
        f"{wanted.value} is allowed: {without:.4g} with {scheme} as it is, no better with "
        f"every layer of it at {' or '.join(settings.higher)}",
        "allow more, choose another scheme, or other quantize.layers and quantize.vocabulary",
    )


def _fewest(
    ordered: Sequence[Unit],
    kept_at: Callable[[Sequence[Unit]], AllChoices],
    measured: _Measured,
    value: float,
    given: Mapping[Unit, float],
) -> tuple[list[Unit], float]:
    """The shortest beginning of the list that holds, then without what is not needed."""
    low, high = 1, len(ordered)  # the answer is one of these; high holds
    found: dict[int, float] = {}
    while low < high:
        middle = (low + high) // 2
        found[middle] = measured.of(kept_at(ordered[:middle]))
        low, high = (low, middle) if found[middle] <= value else (middle + 1, high)
    kept = list(ordered[:high])
    drop = found[high] if high in found else measured.of(kept_at(kept))
    # The last one is needed: without it, it did not hold.
    for unit in sorted(kept[:-1], key=lambda unit: (-given[unit], unit.layers)):
        if measured.count >= MOST_EVALUATIONS:
            break
        fewer = [each for each in kept if each is not unit]
        if (lost := measured.of(kept_at(fewer))) <= value:
            kept, drop = fewer, lost
    return kept, drop


def _keep(choices: AllChoices, units: Sequence[Unit], level: LayerScheme, wanted: MaxDrop) -> AllChoices:
    reason = f"kept by quantize.max_drop ({wanted.metric})"
    changed = {role: dict(layers) for role, layers in choices.items()}
    for unit in units:
        for role, name in unit.layers:
            changed[role][name] = Choice(scheme=level, reason=reason)
    return changed


def _controlled(
    choices: AllChoices, kept: tuple[tuple[str, str], ...], drop: float, without: float, evaluations: int
) -> Controlled:
    plain = {role: dict(layers) for role, layers in choices.items()}
    return Controlled(choices=plain, kept=kept, drop=drop, without=without, evaluations=evaluations)
