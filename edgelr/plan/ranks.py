"""The allocator: a rank, or dense, for every site, under one budget.

Each site has a list of options, from cheap and lossy to dense and exact. The loss of the whole is taken
as the sum of the sites' losses (their errors are small and add up), so the best choice under a budget is
where every site trades loss for cost at the same rate: the lower convex hull of each site's options,
walked from the cheapest up, steepest gain first. That is the Lagrangian solution for every budget at
once, and more budget never makes a site worse.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelr.errors import UsageError
from edgelr.structure import Reduction


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice for a site, or for several that are decided together.

    Attributes:
        reductions: What is done; nothing leaves everything dense.
        cost: In the budget's units.
        loss: Expected loss of the task's output.
    """

    reductions: tuple[Reduction, ...]
    cost: float
    loss: float


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """The options that are best for some exchange rate of loss against cost, cheapest first.

    Gains per cost fall strictly along the result.

    Args:
        options: Choices for one site, at least one.
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


def combine(one: Sequence[Option], other: Sequence[Option]) -> list[Option]:
    """The best choices for two things together, when the choice for one does not matter to the other.

    The hull of all sums is both hulls walked together, the steepest step of either first.

    Args:
        one: Choices for the first thing.
        other: Choices for the second thing.

    Returns:
        Cheapest first; when one side has a single choice, every choice of the other side.
    """
    if len(one) == 1 or len(other) == 1:
        return [_sum(first, second) for first, second in itertools.product(one, other)]
    hulls = lower_hull(one), lower_hull(other)
    places = [0, 0]
    found = [_sum(hulls[0][0], hulls[1][0])]
    while gains := [
        (_gain(*hull[place : place + 2]), -side)
        for side, (hull, place) in enumerate(zip(hulls, places, strict=True))
        if place + 1 < len(hull)
    ]:
        places[-max(gains)[1]] += 1
        found.append(_sum(hulls[0][places[0]], hulls[1][places[1]]))
    return found


def _sum(one: Option, other: Option) -> Option:
    return Option(
        reductions=one.reductions + other.reductions, cost=one.cost + other.cost, loss=one.loss + other.loss
    )


def allocate(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """Minimise the summed loss with a summed cost of at most ``budget``.

    Every site walks its hull, the steepest step of all first; where the next step does not fit, its site
    goes as far as the budget lets it, and the walk ends. So what a larger budget does is what a smaller one
    did and more: no site is ever worse for it. The loss is least for every budget that the steps fill
    exactly, and within one step of that for all others.

    Args:
        options: Site -> its choices.
        budget: In the units of the options' cost.

    Raises:
        UsageError: Even the cheapest choices exceed the budget.
    """
    hulls = {name: lower_hull(choices) for name, choices in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = budget - sum(option.cost for option in chosen.values())
    if left < 0:
        raise _too_small(options, budget, budget - left)
    # Ties are broken by name, so that the result depends on nothing but the numbers.
    steps = sorted(
        (-_gain(cheap, better), name, place)
        for name, hull in hulls.items()
        for place, (cheap, better) in enumerate(itertools.pairwise(hull), start=1)
    )
    for _, name, place in steps:
        before, after = chosen[name], hulls[name][place]
        if after.cost - before.cost > left:
            fitting = [option for option in options[name] if option.cost - before.cost <= left]
            chosen[name] = min([before, *fitting], key=lambda option: (option.loss, option.cost))
            break
        chosen[name] = after
        left -= after.cost - before.cost
    return chosen


def allocate_uniform(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """The same kept share for every site: the largest that fits the budget.

    A site that has no choice at that share takes its cheapest.

    Args:
        options: Site -> its choices.
        budget: In the units of the options' cost.

    Raises:
        UsageError: Even the cheapest choices exceed the budget.
    """
    shares = sorted({option.cost / _full(choices) for choices in options.values() for option in choices})

    def at(share: float) -> dict[str, Option]:
        return {name: _best_within(choices, share) for name, choices in options.items()}

    def exceeds(share: float) -> bool:
        return sum(option.cost for option in at(share).values()) > budget

    fitting = bisect.bisect_left(shares, True, key=exceeds)
    if fitting == 0:
        cheapest = sum(min(option.cost for option in choices) for choices in options.values())
        raise _too_small(options, budget, cheapest)
    return at(shares[fitting - 1])


def _too_small(options: Mapping[str, Sequence[Option]], budget: float, least: float) -> UsageError:
    full = sum(_full(choices) for choices in options.values())
    return UsageError(
        f"compress.keep: a share of {budget / full:.4g} leaves no rank for some sites; "
        f"the smallest possible here is {math.ceil(least / full * 1e4) / 1e4:.4f}",
        "keep more, lower compress.rank_multiple, or exclude sites",
    )


def _full(choices: Sequence[Option]) -> float:
    return max(option.cost for option in choices) or 1.0  # looking a table up has no multiplications


def _best_within(choices: Sequence[Option], share: float) -> Option:
    """The dearest choice at no more than ``share`` of the dense cost, or the cheapest of all."""
    limit = share * _full(choices) * (1 + 1e-12)
    fitting = [option for option in choices if option.cost <= limit]
    return (
        max(fitting, key=lambda option: option.cost)
        if fitting
        else min(choices, key=lambda option: option.cost)
    )
