"""The choices a plan has: for every unit of sites that are decided together, options from lossy to exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Survey
from edgelr.plan.ranks import Option, combine, lower_hull
from edgelr.recipe.schema import Allocation
from edgelr.structure import Group, Reduction, Site

Spectra = Mapping[str, NDArray[np.float64]]
# Groups whose loss an allocation can compare with that of single sites: energies of heads are of scores and
# of contexts, and only a measured sensitivity makes them comparable.
COMPARABLE: dict[Allocation, tuple[str, ...]] = {
    "sensitivity": ("joint", "spatial", "query-key", "value-output"),
    "gradient": ("joint", "spatial"),
    "energy": ("joint", "spatial"),
    "uniform": (),
}
Price = Callable[[Sequence[Site], Reduction | None], float]
"""(sites, what is done to them) -> cost in the budget's units; None is to leave them dense."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Everything that options are made of.

    Attributes:
        survey: Sites and groups.
        spectra: Site -> energies ``[full]``, and so of its spatial form; joint group -> ``[members, full]``;
            heads -> ``[head_size]``.
        price: What a choice costs.
        allocation: What a loss is.
        multiple: Ranks are multiples of this.
    """

    survey: Survey
    spectra: Spectra
    price: Price
    allocation: Allocation
    multiple: int

    @property
    def sites(self) -> dict[str, Site]:
        """The survey's sites by name."""
        return {site.name: site for site in self.survey.sites}


def unit_options(choices: Choices) -> dict[str, list[Option]]:
    """Options of every unit: sites that no group joins are a unit each, the others one a connected set.

    Within a unit, options of parts that do not touch are combined (the hull of a sum is the sum of the hulls,
    walked together), and the unit offers every way to cover its sites: each alone, some together.
    """
    groups = [group for group in choices.survey.groups if group.form in COMPARABLE[choices.allocation]]
    options = {}
    for unit in _units([site.name for site in choices.survey.sites], groups):
        inside = [group for group in groups if set(group.sites) <= set(unit)]
        options[unit[0]] = _cover(choices, tuple(unit), inside, {})
    return options


def head_sizes(head_size: int) -> range:
    """Channels that attention heads of ``head_size`` may be left with: about seven sizes, evenly spread."""
    step = max(1, head_size // 8)
    return range(step, head_size, step)


def dropped_energy(choices: Choices, reduction: Reduction) -> dict[str, float]:
    """Energy that each site of a reduction loses; of attention heads, that of the pair at its first site."""
    match reduction.form:
        case "joint":
            rows = choices.spectra[reduction.spectrum]
            return {name: _tail(row, reduction.rank) for name, row in zip(reduction.sites, rows, strict=True)}
        case "low-rank" | "spatial" | "query-key" | "value-output":
            return {reduction.sites[0]: _tail(choices.spectra[reduction.spectrum], reduction.rank)}
        case _:
            assert_never(reduction.form)


def expected_change(choices: Choices, reduction: Reduction) -> float:
    """Expected change of the model's output, by measured sensitivities."""
    dropped = dropped_energy(choices, reduction)
    if reduction.form in ("low-rank", "joint"):
        return sum(choices.sites[name].sensitivity.change(energy) for name, energy in dropped.items())
    return _group(choices, reduction).sensitivity.change(dropped[reduction.sites[0]])


def _loss(choices: Choices, reduction: Reduction) -> float:
    match choices.allocation:
        case "sensitivity":
            return expected_change(choices, reduction)
        case "gradient":
            # Of Kronecker factors, energies are estimates of the change already, in units common to all.
            return sum(dropped_energy(choices, reduction).values())
        case "energy" | "uniform":
            return sum(
                energy / whole
                for name, energy in dropped_energy(choices, reduction).items()
                if (whole := _whole(choices, reduction, name)) > 0
            )
        case _:
            assert_never(choices.allocation)


def _whole(choices: Choices, reduction: Reduction, name: str) -> float:
    if reduction.form in ("low-rank", "joint"):
        return choices.sites[name].energy
    return _group(choices, reduction).energy


def _cover(
    choices: Choices,
    unit: tuple[str, ...],
    groups: Sequence[Group],
    known: dict[tuple[str, ...], list[Option]],
) -> list[Option]:
    """Options of the sites of a unit: its first one alone, or in each group that it is in, and the rest."""
    if not unit:
        return [Option(reductions=(), cost=0, loss=0.0)]
    if unit not in known:
        ways = [combine(_alone(choices, unit[0]), _cover(choices, unit[1:], groups, known))]
        for group in groups:
            if unit[0] in group.sites and set(group.sites) <= set(unit):
                left = tuple(name for name in unit if name not in group.sites)
                ways.append(combine(_together(choices, group), _cover(choices, left, groups, known)))
        found = [option for way in ways for option in way]
        known[unit] = found if len(ways) == 1 else lower_hull(found)
    return known[unit]


def _alone(choices: Choices, name: str) -> list[Option]:
    site = choices.sites[name]
    full = min(site.out, site.in_)
    if site.kind == "tied-embedding" and choices.allocation == "gradient":
        full = 0  # its energies are shares of two different things, no estimates of the change
    reductions = [
        Reduction(form="low-rank", sites=(name,), rank=rank, shared=site.shared)
        for rank in range(choices.multiple, full, choices.multiple)
    ]
    return _priced(choices, [site], reductions)


def _together(choices: Choices, group: Group) -> list[Option]:
    members = [choices.sites[name] for name in group.sites]
    if group.form in ("joint", "spatial"):
        full = choices.spectra[group.name].shape[-1]
        ranks = range(choices.multiple, full, choices.multiple)
    else:
        ranks = head_sizes(group.head_size)
    reductions = [
        Reduction(form=group.form, sites=group.sites, rank=rank, heads=group.heads) for rank in ranks
    ]
    return _priced(choices, members, reductions)


def _priced(choices: Choices, members: Sequence[Site], reductions: Sequence[Reduction]) -> list[Option]:
    """The reductions that cost less than to leave their sites dense, and that."""
    dense = choices.price(members, None)
    options = [
        Option(reductions=(reduction,), cost=price, loss=_loss(choices, reduction))
        for reduction in reductions
        if (price := choices.price(members, reduction)) < dense
    ]
    return [*options, Option(reductions=(), cost=dense, loss=0.0)]


def _units(names: Sequence[str], groups: Sequence[Group]) -> list[list[str]]:
    """Sites that groups connect, directly or through others, in the order of their first."""
    unit_of = {name: {name} for name in names}
    for group in groups:
        merged = set().union(*(unit_of[name] for name in group.sites))
        for name in merged:
            unit_of[name] = merged
    seen: set[str] = set()
    units = []
    for name in names:
        if name not in seen:
            units.append([other for other in names if other in unit_of[name]])
            seen |= unit_of[name]
    return units


def _group(choices: Choices, reduction: Reduction) -> Group:
    return next(
        group
        for group in choices.survey.groups
        if (group.form, group.sites) == (reduction.form, reduction.sites)
    )


def _tail(spectrum: NDArray[np.float64], rank: int) -> float:
    return float(spectrum[rank:].sum())
