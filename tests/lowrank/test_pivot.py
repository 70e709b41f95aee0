import numpy as np
import pytest

from edgelr.lowrank.pivot import pivot_rows, pivoted
from edgelr.lowrank.svd import Factors

SHAPES = [(9, 6, 3), (6, 9, 5), (40, 30, 12), (7, 7, 1)]


def problem(out: int, in_: int, rank: int, seed: int = 0) -> Factors:
    random = np.random.default_rng(seed)
    return Factors(up=random.normal(size=(out, rank)), down=random.normal(size=(rank, in_)))


def product(factors: Factors, rows: list[int]) -> np.ndarray:
    """The weight that pivoted factors stand for, its rows in their places again."""
    result = pivoted(factors, rows)
    weight = np.empty((len(factors.up), factors.down.shape[1]))
    weight[rows] = result.down
    weight[[row for row in range(len(weight)) if row not in set(rows)]] = result.rest @ result.down
    return weight


@pytest.mark.parametrize("shape", SHAPES)
def test_the_product_is_the_same_with_fewer_numbers(shape):
    factors = problem(*shape)
    out, in_, rank = shape
    rows = pivot_rows(factors.up)
    np.testing.assert_allclose(product(factors, rows), factors.product, atol=1e-10)
    result = pivoted(factors, rows)
    assert result.down.size + result.rest.size == rank * (in_ + out - rank)
    assert result.growth == np.abs(result.rest).max()


@pytest.mark.parametrize("rows", [[0, 1, 2], [6, 7, 8], [4, 0, 7]])
def test_any_independent_rows_will_do_in_any_order(rows):
    factors = problem(9, 6, 3)
    np.testing.assert_allclose(product(factors, rows), factors.product, atol=1e-9)


def test_columns_are_pivoted_by_transposes():
    factors = problem(9, 6, 3)
    columns = pivot_rows(factors.down.T)
    flipped = Factors(up=factors.down.T, down=factors.up.T)
    np.testing.assert_allclose(product(flipped, columns).T, factors.product, atol=1e-10)


def test_full_rank_leaves_the_weight_itself():
    factors = problem(5, 8, 5)
    result = pivoted(factors, pivot_rows(factors.up))
    np.testing.assert_allclose(result.down, factors.product, atol=1e-12)
    assert (result.rest.shape, result.growth) == ((0, 5), 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_chosen_rows_keep_the_growth_small(seed):
    factors = problem(200, 30, 20, seed)
    factors.up[:, 10:] *= 1e-3  # a steep spectrum, as balanced factors have it
    assert pivoted(factors, pivot_rows(factors.up)).growth < 2.5
    assert pivoted(factors, range(20)).growth > 2.5


def test_the_choice_is_that_of_pivoted_qr():
    up = np.diag([1.0, 5.0, 3.0])[:, :2] + np.array([[0, 0], [0, 0], [4.9, 0.1]])
    assert pivot_rows(up) == [1, 2]
    assert pivot_rows(up, among=[0, 1]) == [0, 1]


def test_dependent_rows_are_refused():
    factors = problem(6, 5, 2)
    factors.up[1] = factors.up[0]
    with pytest.raises(ValueError, match="dependent"):
        pivoted(factors, [0, 1])
    assert not {0, 1} <= set(pivot_rows(factors.up))


def test_a_zero_matrix_gets_some_rows():
    assert len(set(pivot_rows(np.zeros((5, 3))))) == 3


@pytest.mark.parametrize("rows", [[0], [1, 1], [0, 1, 2]])
def test_another_number_of_rows_is_named(rows):
    with pytest.raises(ValueError, match=f"{len(set(rows))} rows were chosen for rank 2"):
        pivoted(problem(6, 5, 2), rows)


def test_too_few_candidates_are_named():
    with pytest.raises(ValueError, match="3 pivots are needed, and there are 2"):
        pivot_rows(problem(6, 5, 3).up, among=[1, 4])
