"""The allocator: a rank, or dense, for every site, under one budget.

Each site has a list of options, from cheap and lossy to dense and exact. The loss of the whole is taken
as the sum of the sites' losses (their errors are small and add up), so the best choice under a budget is
where every site trades loss for cost at the same rate: the lower convex hull of each site's options,
walked from the cheapest up, steepest gain first. That is the Lagrangian solution for every budget at
once, and more budget never makes a site worse.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelr.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice for a site.

    Attributes:
        rank: Inner dimension, None for dense.
        cost: In the budget's units.
        loss: Expected loss of the task's output.
    """

    rank: int | None
    cost: int
    loss: float


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """The options that are best for some exchange rate of loss against cost, cheapest first.

    Gains per cost fall strictly along the result.
    """
    hull: list[Option] = []
    for option in sorted(options, key=lambda entry: (entry.cost, entry.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) >= 2 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _gain(cheap: Option, better: Option) -> float:
    return (cheap.loss - better.loss) / (better.cost - cheap.cost)


def allocate(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """Minimise the summed loss with a summed cost of at most ``budget``.

    Args:
        options: Site -> its choices.
        budget: In the units of the options' cost.

    Raises:
        UsageError: Even the cheapest choices exceed the budget.
    """
    hulls = {name: lower_hull(choices) for name, choices in options.items()}
    position = dict.fromkeys(hulls, 0)
    spent = sum(hull[0].cost for hull in hulls.values())
    if spent > budget:
        full = sum(max(option.cost for option in choices) for choices in options.values())
        raise UsageError(
            f"compress.keep: a share of {budget / full:.4g} leaves no rank for some sites; "
            f"the smallest possible here is {spent / full:.4g}",
            "keep more, lower compress.rank_multiple, or exclude sites",
        )
    # Ties are broken by name, so that the result depends on nothing but the numbers.
    steps = [(-_gain(hull[0], hull[1]), name) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, name = heapq.heappop(steps)
        hull, at = hulls[name], position[name]
        extra = hull[at + 1].cost - hull[at].cost
        if spent + extra > budget:
            break  # filling the rest with lesser steps would make some site worse when the budget grows
        spent += extra
        position[name] = at + 1
        if at + 2 < len(hull):
            heapq.heappush(steps, (-_gain(hull[at + 1], hull[at + 2]), name))
    return {name: hulls[name][at] for name, at in position.items()}


def allocate_uniform(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """The same kept share for every site: the largest that fits the budget.

    Raises:
        UsageError: Even the cheapest choices exceed the budget.
    """
    shares = sorted(
        {option.cost / _full(choices) for choices in options.values() for option in choices}, reverse=True
    )
    for share in shares:
        chosen = {name: _best_within(choices, share) for name, choices in options.items()}
        if sum(option.cost for option in chosen.values()) <= budget:
            return chosen
    return allocate(options, budget)


def _full(choices: Sequence[Option]) -> int:
    return max(option.cost for option in choices)


def _best_within(choices: Sequence[Option], share: float) -> Option:
    """The dearest choice at no more than ``share`` of the dense cost, or the cheapest of all."""
    limit = share * _full(choices) * (1 + 1e-12)
    fitting = [option for option in choices if option.cost <= limit]
    return (
        max(fitting, key=lambda option: option.cost)
        if fitting
        else min(choices, key=lambda option: option.cost)
    )
