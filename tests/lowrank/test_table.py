import numpy as np
import pytest

from edgelr.lowrank import table as module
from edgelr.lowrank.svd import decompose
from edgelr.lowrank.table import (
    UNSEEN_COUNT,
    balanced_table,
    factor_table,
    row_weights,
    table_energies,
    weighted_gram,
)


def problem(vocabulary=40, dim=8, seed=0):
    random = np.random.default_rng(seed)
    table = random.normal(size=(vocabulary, dim)) @ (
        random.normal(size=(dim, dim)) * np.geomspace(1, 0.01, dim)
    )
    counts = np.floor(1000 / (1 + np.arange(vocabulary)) ** 1.5).astype(int)  # Zipf: the last were never seen
    return table, counts


def error(table, counts, factors) -> float:
    return float(row_weights(table, counts) @ np.square(table - factors.product.T).sum(axis=1))


@pytest.mark.parametrize("vocabulary", [40, 5])
def test_full_rank_returns_the_table(vocabulary):
    table, counts = problem(vocabulary)
    np.testing.assert_allclose(factor_table(table, counts, min(table.shape)).product, table.T, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_weighted_error_is_the_dropped_energy(rank):
    table, counts = problem()
    energies = table_energies(table, counts)
    assert error(table, counts, factor_table(table, counts, rank)) == pytest.approx(
        energies[rank:].sum(), rel=1e-6
    )
    assert energies.sum() == pytest.approx(row_weights(table, counts) @ np.square(table).sum(axis=1))


def test_it_is_the_whitened_solution_with_one_hot_inputs():
    table, counts = problem()
    gram = np.diag(row_weights(table, counts))
    factors = factor_table(table, counts, 3)
    np.testing.assert_allclose(factors.product, decompose(table.T, gram).truncated(3).product, atol=1e-10)
    np.testing.assert_allclose(table_energies(table, counts), decompose(table.T, gram).energies, atol=1e-9)


def test_counted_tokens_lose_less_than_by_plain_factors():
    table, counts = problem()
    ours, plain = factor_table(table, counts, 3), decompose(table.T).truncated(3)
    assert error(table, counts, ours) < error(table, counts, plain)
    np.testing.assert_allclose(factor_table(table, 0 * counts, 3).product, plain.product, atol=1e-10)


def test_unseen_tokens_count_a_little():
    table, _ = problem(vocabulary=3)
    np.testing.assert_array_equal(row_weights(table, np.array([0, 1, 7])), [UNSEEN_COUNT, 1, 7])


def test_blocks_make_no_difference(monkeypatch):
    table, counts = problem()
    whole = factor_table(table, counts, 3).product
    monkeypatch.setattr(module, "_ROWS", 7)
    np.testing.assert_allclose(factor_table(table, counts, 3).product, whole, atol=1e-12)
    np.testing.assert_allclose(weighted_gram(table, np.ones(40)), table.T @ table)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_sums_are_in_double_precision_whatever_the_table_is(dtype):
    table, counts = problem()
    narrow = table.astype(dtype)
    assert factor_table(narrow, counts, 3).down.dtype == np.float64
    np.testing.assert_array_equal(
        table_energies(narrow, counts), table_energies(narrow.astype(float), counts)
    )


def test_balanced_keeps_the_product_and_evens_the_scales():
    table, counts = problem()
    factors = factor_table(1000 * table, counts, 4)
    np.testing.assert_allclose(np.linalg.norm(factors.up, axis=0), np.linalg.norm(factors.down, axis=1))
    zero = balanced_table(factor_table(0 * table, counts, 2))
    np.testing.assert_array_equal(zero.product, 0 * table.T)


def test_a_table_of_lower_rank_is_exact_beyond_it():
    table, counts = problem()
    flat = table[:, :2] @ np.ones((2, 8))
    np.testing.assert_allclose(factor_table(flat, counts, 5).product, flat.T, atol=1e-12)


def test_a_row_of_zeros_stays_zero():
    table, counts = problem()
    table[3] = 0
    np.testing.assert_array_equal(factor_table(table, counts, 2).product[:, 3], 0)


@pytest.mark.parametrize("rank", [0, 9])
def test_a_rank_out_of_range_is_named(rank):
    table, counts = problem()
    with pytest.raises(ValueError, match=f"rank {rank} is outside 1 to 8"):
        factor_table(table, counts, rank)


def test_counts_that_do_not_fit_are_refused():
    table, counts = problem()
    with pytest.raises(ValueError, match=r"counts of shape \(39,\)"):
        factor_table(table, counts[:-1], 2)
    with pytest.raises(ValueError, match="negative or not finite"):
        table_energies(table, -counts)


def curvature(dim=8):
    random = np.random.default_rng(3)
    gradients = random.normal(size=(50, dim)) * np.geomspace(1, 0.1, dim)
    return gradients.T @ gradients


def test_with_a_curvature_it_is_the_decomposition_of_the_one_hot_inputs():
    table, counts = problem()
    expected = decompose(table.T, np.diag(row_weights(table, counts)), curvature())
    np.testing.assert_allclose(
        table_energies(table, counts, curvature()), expected.energies, rtol=1e-6, atol=1e-9
    )
    found = factor_table(table, counts, 3, curvature())
    np.testing.assert_allclose(found.product, expected.truncated(3).product, atol=1e-6)
    np.testing.assert_allclose(found.up.T @ found.up, found.down @ found.down.T, atol=1e-6)
    full = factor_table(table, counts, 8, curvature())
    np.testing.assert_allclose(full.product, table.T, atol=1e-8)
