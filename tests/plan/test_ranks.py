import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.errors import UsageError
from edgelr.plan.ranks import Option, allocate, allocate_uniform, combine, lower_hull
from edgelr.structure import Reduction


def option(name: str, rank: int | None, cost: float, loss: float) -> Option:
    reduction = () if rank is None else (Reduction(form="low-rank", sites=(name,), rank=rank),)
    return Option(reductions=reduction, cost=cost, loss=loss)


def rank_of(chosen: Option) -> int | None:
    return chosen.reductions[0].rank if chosen.reductions else None


def random_options(seed: int, sites: int = 4) -> dict[str, list[Option]]:
    random = np.random.default_rng(seed)
    options = {}
    for number in range(sites):
        name, energies = f"s{number}", np.sort(random.exponential(size=6))[::-1]
        choices = [option(name, r, 10 * r, float(energies[r:].sum())) for r in range(1, 6)]
        options[name] = [*choices, option(name, None, 60, 0.0)]
    return options


def total(chosen: dict[str, Option]) -> tuple[float, float]:
    return sum(o.cost for o in chosen.values()), sum(o.loss for o in chosen.values())


def best(options: dict[str, list[Option]], budget: float) -> float:
    """The least loss within a budget, by trying everything."""
    return min(
        sum(o.loss for o in choice)
        for choice in itertools.product(*options.values())
        if sum(o.cost for o in choice) <= budget
    )


@pytest.mark.parametrize("seed", range(5))
def test_within_budget_and_never_better_than_brute_force(seed):
    options = random_options(seed)
    for budget in (60, 120, 200):
        spent, loss = total(allocate(options, budget))
        assert spent <= budget
        assert loss >= best(options, budget) - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force_at_the_budgets_that_it_spends_whole(seed):
    options = random_options(seed)
    for budget in range(50, 240, 10):
        spent, loss = total(allocate(options, budget))
        assert loss == pytest.approx(best(options, spent))


@pytest.mark.parametrize("seed", range(5))
def test_more_budget_never_lowers_a_rank(seed):
    options = random_options(seed)
    before: dict[str, Option] = {}
    for budget in range(40, 250, 5):
        chosen = allocate(options, budget)
        assert all(chosen[name].cost >= option.cost for name, option in before.items())
        before = chosen


# --- any options at all -----------------------------------------------------------------------------

# Whole numbers, so that sums are exact and a budget can be spent exactly.
values = st.integers(0, 30)


@st.composite
def choices(draw: st.DrawFn) -> list[Option]:
    """Options in any order, some of them useless; one is without loss."""
    name = draw(st.sampled_from("abc"))
    pairs = draw(st.lists(st.tuples(values, values), max_size=4))
    found = [option(name, n + 1, float(cost), float(loss)) for n, (cost, loss) in enumerate(pairs)]
    return [*found, option(name, None, float(draw(st.integers(1, 40))), 0.0)]


def points(found: list[Option]) -> list[tuple[float, float]]:
    return [(each.cost, each.loss) for each in found]


@given(choices(), choices())
def test_the_choices_for_two_things_are_the_hull_of_all_sums(one, other):
    sums = [
        Option(reductions=a.reductions + b.reductions, cost=a.cost + b.cost, loss=a.loss + b.loss)
        for a, b in itertools.product(one, other)
    ]
    assert points(lower_hull(combine(one, other))) == points(lower_hull(sums))


@given(choices(), choices())
def test_a_combined_choice_is_one_of_each(one, other):
    sums = {
        (a.reductions + b.reductions, a.cost + b.cost, a.loss + b.loss)
        for a, b in itertools.product(one, other)
    }
    assert {(each.reductions, each.cost, each.loss) for each in combine(one, other)} <= sums


@given(choices())
def test_with_a_thing_that_has_one_choice_every_choice_stays(one):
    nothing = [Option(reductions=(), cost=0.0, loss=0.0)]
    assert combine(nothing, one) == combine(one, nothing) == one


@given(st.lists(choices(), min_size=1, max_size=3), st.integers(1, 100))
def test_any_options_stay_within_the_budget_and_are_the_best_of_those_who_spend_it(lists, budget):
    options = dict(zip("abc", lists, strict=False))
    least = sum(min(each.cost for each in found) for found in lists)
    if budget < least:
        with pytest.raises(UsageError, match=r"compress\.keep"):
            allocate(options, budget)
        return
    spent, loss = total(allocate(options, budget))
    assert spent <= budget
    assert loss >= best(options, budget) - 1e-9
    hulls = {name: lower_hull(found) for name, found in options.items()}
    # Where every step fits, the walk is the Lagrangian optimum itself.
    if all(chosen in hulls[name] for name, chosen in allocate(options, budget).items()):
        assert loss <= best(hulls, spent) + 1e-9


@given(st.lists(choices(), min_size=1, max_size=3))
def test_more_budget_never_loses_more(lists):
    options = dict(zip("abc", lists, strict=False))
    least = int(sum(min(each.cost for each in found) for found in lists))
    losses = [total(allocate(options, budget))[1] for budget in range(least, least + 80, 3)]
    assert all(more <= less + 1e-9 for less, more in itertools.pairwise(losses))


# --- details ----------------------------------------------------------------------------------------


def test_the_hull_leaves_out_what_no_exchange_rate_wants():
    options = [option("a", 1, 10, 5), option("a", 2, 20, 4.9), option("a", None, 30, 0)]
    assert [rank_of(each) for each in lower_hull(options)] == [1, None]


def test_a_budget_too_small_names_the_smallest_possible():
    with pytest.raises(UsageError, match=r"smallest possible here is 0\.1667"):
        allocate(random_options(0), 30)
    with pytest.raises(UsageError, match=r"smallest possible here is 0\.1667"):
        allocate_uniform(random_options(0), 30)


def test_uniform_gives_every_site_the_same_share():
    chosen = allocate_uniform(random_options(0), 130)
    assert {rank_of(each) for each in chosen.values()} == {3}


def test_ties_are_broken_by_name():
    options = {name: [option(name, 1, 1, 1.0), option(name, None, 2, 0.0)] for name in ("b", "a", "c")}
    chosen = allocate(options, 4)
    assert {name for name, each in chosen.items() if not each.reductions} == {"a"}


def test_what_costs_nothing_has_a_share_too():
    free = [Option(reductions=(), cost=0, loss=0.0)]
    other = [Option(reductions=(), cost=cost, loss=10 - cost) for cost in (5, 10)]
    chosen = allocate_uniform({"free": free, "other": other}, 5)
    assert {name: option.cost for name, option in chosen.items()} == {"free": 0, "other": 5}
