import numpy as np
import pytest

from edgelr.lowrank.svd import balanced, output_energies, plain_factors, whitened_factors

SHAPES = [(6, 9), (9, 6), (7, 7)]


def problem(shape: tuple[int, int], seed: int = 0):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(200, shape[1])) * np.geomspace(1, 0.01, shape[1])
    return random.normal(size=shape), inputs, inputs.T @ inputs


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_returns_the_weight(shape):
    weight, _, gram = problem(shape)
    rank = min(shape)
    np.testing.assert_allclose(plain_factors(weight, rank).product, weight, atol=1e-12)
    np.testing.assert_allclose(whitened_factors(weight, gram, rank).product, weight, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_squared_error_is_the_dropped_energy(shape, rank):
    weight, inputs, gram = problem(shape)
    factors = whitened_factors(weight, gram, rank)
    error = np.square(inputs @ (weight - factors.product).T).sum()
    assert error == pytest.approx(output_energies(weight, gram)[rank:].sum(), rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_whitened_is_never_worse_than_plain_on_its_inputs(seed):
    weight, inputs, gram = problem((8, 10), seed)
    errors = [
        np.square(inputs @ (weight - factors.product).T).sum()
        for factors in (whitened_factors(weight, gram, 4), plain_factors(weight, 4))
    ]
    assert errors[0] <= errors[1] * (1 + 1e-9)


def test_fewer_inputs_than_dimensions_are_handled():
    weight, inputs, _ = problem((8, 10))
    few = inputs[:3]
    factors = whitened_factors(weight, few.T @ few, 3)
    np.testing.assert_allclose(few @ factors.product.T, few @ weight.T, atol=1e-9)


def test_energies_sum_to_the_output_energy():
    weight, inputs, gram = problem((9, 6))
    assert output_energies(weight, gram).sum() == pytest.approx(np.square(inputs @ weight.T).sum())


def test_balanced_keeps_the_product_and_evens_the_scales():
    weight, _, gram = problem((8, 10))
    factors = whitened_factors(1000 * weight, gram, 4)
    assert np.linalg.norm(factors.up) == pytest.approx(np.linalg.norm(factors.down))
    np.testing.assert_allclose(balanced(plain_factors(weight, 8)).product.shape, weight.shape)


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_a_rank_out_of_range_is_named(rank):
    weight, _, gram = problem((6, 9))
    with pytest.raises(ValueError, match=f"rank {rank} is outside 1 to 6"):
        whitened_factors(weight, gram, rank)
    with pytest.raises(ValueError, match="outside"):
        plain_factors(weight, rank)


def test_a_zero_weight_gives_zero():
    weight, _, gram = problem((6, 9))
    np.testing.assert_array_equal(whitened_factors(0 * weight, gram, 2).product, 0 * weight)
