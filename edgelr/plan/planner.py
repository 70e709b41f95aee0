"""Everything that may be done to a model, priced once, so that any number of budgets can be solved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgelr.artifacts import Survey
from edgelr.plan.cost import cost, dense_shapes, shapes
from edgelr.plan.options import COMPARABLE, Choices, Price, expected_change, unit_options
from edgelr.plan.ranks import Option, allocate, allocate_uniform
from edgelr.recipe.schema import Budget, Compress
from edgelr.structure import Group, Reduction, Site


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How matrices are stored: as ``fp32`` or by a scheme, and whether factors are pivoted."""

    precision: str
    pivoted: bool


@dataclass(frozen=True, kw_only=True)
class Planner:
    """The choices of a model.

    Attributes:
        choices: What they are made of.
        options: Unit of sites -> its options, priced.
    """

    choices: Choices
    options: dict[str, list[Option]]

    @property
    def dense(self) -> float:
        """What the sites cost when nothing is done to them."""
        return sum(self.choices.price([site], None) for site in self.choices.survey.sites)

    @property
    def least(self) -> float:
        """What the cheapest options cost."""
        return sum(min(option.cost for option in options) for options in self.options.values())

    @property
    def least_share(self) -> float:
        """The smallest share of ``dense`` that can be asked for, rounded up."""
        return math.ceil(self.least / self.dense * 1e4) / 1e4

    def solve(self, budget: float) -> list[Option]:
        """The best option of every unit, together within a budget.

        Raises:
            UsageError: Even the cheapest options exceed it.
        """
        uniform = self.choices.allocation == "uniform"
        found = allocate_uniform(self.options, budget) if uniform else allocate(self.options, budget)
        return list(found.values())

    def change(self, options: Sequence[Option]) -> float:
        """Expected change of the model's output."""
        return sum(expected_change(self.choices, reduction) for reduction in reductions_of(options))


def reductions_of(options: Sequence[Option]) -> list[Reduction]:
    """What is done by options, in their order."""
    return [reduction for option in options for reduction in option.reductions]


def usable_groups(survey: Survey, compress: Compress) -> tuple[Group, ...]:
    """Groups that the recipe allows and that its allocation can compare with single sites."""
    forms = set(compress.groups) & set(COMPARABLE[compress.allocate])
    return tuple(group for group in survey.groups if group.form in forms)


def make_planner(survey: Survey, compress: Compress, price: Price) -> Planner:
    """Price everything that may be done.

    Args:
        survey: The sites and groups with their spectra and sensitivities.
        compress: Allocation, groups and rank multiple; its budget does not count.
        price: What a choice costs.
    """
    with np.load(survey.folder / "spectra.npz", allow_pickle=False) as archive:
        spectra = {name: archive[name] for name in archive.files}
    choices = Choices(
        survey=replace(survey, groups=usable_groups(survey, compress)),
        spectra=spectra,
        price=price,
        allocation=compress.allocate,
        multiple=compress.rank_multiple,
    )
    return Planner(choices=choices, options=unit_options(choices))


def storage_price(survey: Survey, budget: Budget, storage: Storage) -> Price:
    """Prices in the units of a budget that is a share."""
    sites = {site.name: site for site in survey.sites}

    def price(members: Sequence[Site], reduction: Reduction | None) -> float:
        matrices = (
            dense_shapes(members) if reduction is None else shapes(reduction, sites, pivoted=storage.pivoted)
        )
        return cost(matrices, budget, storage.precision)

    return price
