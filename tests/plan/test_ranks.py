import itertools

import numpy as np
import pytest

from edgelr.errors import UsageError
from edgelr.plan.ranks import Option, allocate, allocate_uniform, lower_hull


def random_options(seed: int, sites: int = 4) -> dict[str, list[Option]]:
    random = np.random.default_rng(seed)
    options = {}
    for number in range(sites):
        energies = np.sort(random.exponential(size=6))[::-1]
        choices = [Option(rank=r, cost=10 * r, loss=float(energies[r:].sum())) for r in range(1, 6)]
        options[f"s{number}"] = [*choices, Option(rank=None, cost=60, loss=0.0)]
    return options


def total(chosen: dict[str, Option]) -> tuple[int, float]:
    return sum(o.cost for o in chosen.values()), sum(o.loss for o in chosen.values())


@pytest.mark.parametrize("seed", range(5))
def test_within_budget_and_never_better_than_brute_force(seed):
    options = random_options(seed)
    for budget in (60, 120, 200):
        spent, loss = total(allocate(options, budget))
        best = min(
            sum(o.loss for o in choice)
            for choice in itertools.product(*options.values())
            if sum(o.cost for o in choice) <= budget
        )
        assert spent <= budget
        assert loss >= best - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force_at_the_budgets_that_it_spends_whole(seed):
    options = random_options(seed)
    for budget in range(50, 240, 10):
        spent, loss = total(allocate(options, budget))
        same = [
            sum(o.loss for o in choice)
            for choice in itertools.product(*options.values())
            if sum(o.cost for o in choice) <= spent
        ]
        assert loss == pytest.approx(min(same))


@pytest.mark.parametrize("seed", range(5))
def test_more_budget_never_lowers_a_rank(seed):
    options = random_options(seed)
    before: dict[str, Option] = {}
    for budget in range(40, 250, 5):
        chosen = allocate(options, budget)
        assert all(chosen[name].cost >= option.cost for name, option in before.items())
        before = chosen


def test_the_hull_leaves_out_what_no_exchange_rate_wants():
    options = [
        Option(rank=1, cost=10, loss=5),
        Option(rank=2, cost=20, loss=4.9),
        Option(rank=None, cost=30, loss=0),
    ]
    assert [option.rank for option in lower_hull(options)] == [1, None]


def test_a_budget_too_small_names_the_smallest_possible():
    with pytest.raises(UsageError, match=r"smallest possible here is 0\.1667"):
        allocate(random_options(0), 30)


def test_uniform_gives_every_site_the_same_share():
    chosen = allocate_uniform(random_options(0), 130)
    assert {option.rank for option in chosen.values()} == {3}
