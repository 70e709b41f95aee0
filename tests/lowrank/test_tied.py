import numpy as np
import pytest

from edgelr.lowrank import table as blocks_of
from edgelr.lowrank import tied as module
from edgelr.lowrank.svd import Factors, decompose
from edgelr.lowrank.table import factor_table
from edgelr.lowrank.tied import factor_tied, tied_energies, tied_errors


def problem(vocabulary=60, dim=8, seed=0):
    random = np.random.default_rng(seed)
    table = random.normal(size=(vocabulary, dim)) @ (
        random.normal(size=(dim, dim)) * np.geomspace(1, 0.1, dim)
    )
    counts = np.floor(1000 / (1 + random.permutation(vocabulary)) ** 1.5)
    hidden = random.normal(size=(300, dim)) @ (
        np.geomspace(1, 0.05, dim)[:, None] * random.normal(size=(dim, dim))
    )
    return table, counts, hidden.T @ hidden


def one_sided(table, counts, gram, rank):
    head = decompose(table, gram).truncated(rank)  # [vocabulary, dim]: the head's own matrix
    return factor_table(table, counts, rank), Factors(up=head.down.T, down=head.up.T)


@pytest.mark.parametrize("vocabulary", [60, 5])
def test_full_rank_returns_the_table(vocabulary):
    table, counts, gram = problem(vocabulary)
    factors = factor_tied(table, counts, gram, min(table.shape))
    np.testing.assert_allclose(factors.product, table.T, atol=1e-9)
    assert tied_errors(table, counts, gram, factors).total == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_no_worse_than_factors_for_one_use(seed, rank):
    table, counts, gram = problem(seed=seed)
    total = tied_errors(table, counts, gram, factor_tied(table, counts, gram, rank)).total
    for factors in one_sided(table, counts, gram, rank):
        assert total <= tied_errors(table, counts, gram, factors).total
    bound = tied_energies(table, counts, gram)
    assert bound.sum() == pytest.approx(2)
    assert bound[rank:].sum() <= total


def test_it_is_better_where_the_two_uses_disagree():
    table, counts, gram = problem()
    total = tied_errors(table, counts, gram, factor_tied(table, counts, gram, 3)).total
    assert total < 0.9 * min(
        tied_errors(table, counts, gram, factors).total for factors in one_sided(table, counts, gram, 3)
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_never_increases_the_error(seed):
    table, counts, gram = problem(seed=seed)
    problem_ = module._problem(table, counts, gram)
    for start in module._one_sided(problem_, 3):
        values = [module._descend(problem_, start, sweeps)[0] for sweeps in (0, 1, 2, 5, 10)]
        assert values == sorted(values, reverse=True)
        assert values[-1] < values[0]


@pytest.mark.parametrize("seed", range(3))
def test_each_step_is_the_minimum_in_its_factor(seed):
    table, counts, gram = problem(seed=seed)
    problem_ = module._problem(table, counts, gram)
    random = np.random.default_rng(seed)
    basis, coordinates = module._best_coordinates(
        problem_, random.normal(size=(8, 3)), module._diagonalized(problem_.used, problem_.every)
    )
    best = module._best_basis(problem_, coordinates, np.linalg.eigh(problem_.hidden))
    for _ in range(10):
        step = 1e-3 * random.normal(size=(8, 3))
        assert problem_.value(basis, coordinates) <= problem_.value(basis, coordinates + step)
        assert problem_.value(best, coordinates) <= problem_.value(best + step, coordinates)
    assert problem_.value(best, coordinates) <= problem_.value(basis, coordinates)


def test_the_value_is_the_total_of_the_errors():
    table, counts, gram = problem()
    basis, coordinates = np.random.default_rng(1).normal(size=(2, 8, 3))
    factors = Factors(up=basis, down=(table @ coordinates).T)
    value = module._problem(table, counts, gram).value(basis, coordinates)
    assert value == pytest.approx(tied_errors(table, counts, gram, factors).total)


def test_a_stationary_point_in_every_entry():
    table, counts, gram = problem()
    factors = factor_tied(table, counts, gram, 3)
    total = tied_errors(table, counts, gram, factors).total
    random = np.random.default_rng(0)
    for _ in range(20):
        down = factors.down + 1e-3 * random.normal(size=factors.down.shape)
        moved = Factors(up=factors.up, down=down)
        assert tied_errors(table, counts, gram, moved).total >= total


def test_a_use_without_data_leaves_the_other():
    table, counts, gram = problem()
    factors = factor_tied(table, counts, 0 * gram, 3)
    np.testing.assert_allclose(factors.product, factor_table(table, counts, 3).product, atol=1e-9)
    assert tied_errors(table, counts, 0 * gram, factors).head == 0


def test_blocks_make_no_difference(monkeypatch):
    table, counts, gram = problem()
    whole = factor_tied(table, counts, gram, 3).product
    monkeypatch.setattr(blocks_of, "_ROWS", 7)
    np.testing.assert_allclose(factor_tied(table, counts, gram, 3).product, whole, atol=1e-9)


def test_a_table_of_lower_rank_is_exact_beyond_it():
    table, counts, gram = problem()
    flat = table[:, :2] @ np.ones((2, 8))
    np.testing.assert_allclose(factor_tied(flat, counts, gram, 5).product, flat.T, atol=1e-9)


def test_what_does_not_fit_is_refused():
    table, counts, gram = problem()
    with pytest.raises(ValueError, match=r"a Gram matrix of shape \(7, 7\)"):
        factor_tied(table, counts, gram[:7, :7], 3)
    with pytest.raises(ValueError, match="rank 9 is outside 1 to 8"):
        factor_tied(table, counts, gram, 9)
    with pytest.raises(ValueError, match="counts of shape"):
        tied_errors(table, counts[1:], gram, factor_table(table, counts, 2))


@pytest.mark.parametrize("rank", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("true_rank", [0, 1, 3])
def test_directions_that_a_table_lacks_are_not_divided_by(rank, true_rank):
    table, counts, gram = problem()
    left, values, right = np.linalg.svd(table, full_matrices=False)
    values[true_rank:] = 0
    table = (left * values) @ right
    found = factor_tied(table, counts, gram, rank)
    assert np.isfinite(found.product).all()
    if rank >= true_rank:
        np.testing.assert_allclose(found.product, table.T, atol=1e-9)
