import numpy as np
import pytest

from edgelr.lowrank.bases import Layer, factors_from, find_basis, is_large
from edgelr.lowrank.svd import decompose, decompose_jointly

SHAPES = [(30, 45), (45, 30), (32, 32)]


def inputs(size: int, decay: float, rows: int | None = None) -> np.ndarray:
    """Gram matrix of inputs whose channels differ by up to ``decay``, and are not independent."""
    random = np.random.default_rng(size)
    mixing = np.eye(size) + 0.3 * random.normal(size=(size, size))
    x = random.normal(size=(rows or 4 * size, size)) * np.geomspace(1, decay, size) @ mixing
    return x.T @ x


def layer(out: int, in_: int, *, curved: bool = False, emphasis: float = 1.0, seed: int = 0) -> Layer:
    weight = np.random.default_rng(seed).normal(size=(out, in_))
    return Layer(weight=weight, curvature=inputs(out, 0.1) if curved else None, emphasis=emphasis)


def lost(each: Layer, product: np.ndarray, gram: np.ndarray) -> float:
    """``tr(F Δ G Δᵀ)`` with the floor of F."""
    delta = each.weight - product
    if each.curvature is None:
        return float(np.einsum("oi,oi->", delta @ gram, delta))
    lifted = each.curvature + 0.01 * np.trace(each.curvature) / len(each.curvature) * np.eye(len(delta))
    return float(np.einsum("oi,oi->", delta @ gram, lifted @ delta))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [1.0, 0.1, 1e-3], ids=["flat", "slow", "fast"])
@pytest.mark.parametrize("curved", [False, True])
def test_dropped_energy_is_the_error(shape, decay, curved):
    gram, one = inputs(shape[1], decay), layer(*shape, curved=curved)
    found = find_basis([one], gram)
    assert found.basis.dtype == np.float32
    assert found.energies.shape == (1, min(shape))
    for rank in (1, 8, 20):
        factors = factors_from([one], found.basis, rank)
        assert factors.up.shape == (shape[0], rank)
        error = lost(one, factors.product, gram)
        assert error == pytest.approx(found.energies[0, rank:].sum(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_and_factors_are_those_of_the_exact_decomposition(shape):
    gram, one = inputs(shape[1], 0.1), layer(*shape)
    found, exact = find_basis([one], gram), decompose(one.weight, gram)
    np.testing.assert_allclose(found.energies[0], exact.energies, rtol=1e-6, atol=1e-9 * exact.energies[0])
    product = factors_from([one], found.basis, 9).product
    np.testing.assert_allclose(product, exact.truncated(9).product, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("rows", [None, 7], ids=["enough-inputs", "few-inputs"])
def test_full_rank_gives_the_weight_back(shape, curved, rows):
    one, gram = layer(*shape, curved=curved), inputs(shape[1], 0.1, rows)
    found = find_basis([one], gram)
    product = factors_from([one], found.basis, min(shape)).product
    assert np.isfinite(product).all()
    np.testing.assert_allclose(product, one.weight, atol=1e-3)


@pytest.mark.parametrize("curved", [False, True])
def test_layers_that_share_down(curved):
    gram = inputs(24, 0.1)
    members = [
        layer(out, 24, curved=curved, emphasis=emphasis, seed=out)
        for out, emphasis in ((24, 1.0), (8, 5.0), (50, 0.2))
    ]
    found = find_basis(members, gram)
    assert found.energies.shape == (3, 24)
    rank = 6
    factors = factors_from(members, found.basis, rank)
    parts = np.split(factors.up, [24, 32])
    errors = [lost(each, up @ factors.down, gram) for each, up in zip(members, parts, strict=True)]
    np.testing.assert_allclose(errors, found.energies[:, rank:].sum(axis=1), rtol=1e-5)
    curvatures = [each.curvature for each in members] if curved else None
    weights, emphasis = [each.weight for each in members], [each.emphasis for each in members]
    exact = decompose_jointly(weights, gram, curvatures, emphasis)
    truncated = exact.decomposition.truncated(rank)
    parts = np.split(truncated.up, [24, 32])
    other = [lost(each, up @ truncated.down, gram) for each, up in zip(members, parts, strict=True)]
    assert np.dot(errors, emphasis) <= np.dot(other, emphasis) * (1 + 1e-6)


def test_few_outputs_together_have_no_more_ranks_than_rows():
    members = [layer(3, 24), layer(4, 24)]
    assert find_basis(members, inputs(24, 0.1)).energies.shape == (2, 7)


@pytest.mark.parametrize("curved", [False, True])
def test_factors_are_balanced(curved):
    one, gram = layer(45, 30, curved=curved), inputs(30, 0.1)
    factors = factors_from([one], find_basis([one], gram).basis, 9)
    sides = factors.up.T @ factors.up, factors.down @ factors.down.T
    np.testing.assert_allclose(*sides, atol=1e-4 * np.trace(sides[0]))


def test_an_input_that_dwarfs_the_others_hides_nothing():
    """Language models have channels a thousand times as large as the rest."""
    one, gram = layer(30, 45), inputs(45, 1.0)
    scale = np.ones(45)
    scale[3] = 1e4
    gram = scale[:, None] * gram * scale
    found = find_basis([one], gram)
    error = lost(one, factors_from([one], found.basis, 12).product, gram)
    best = decompose(one.weight, gram).energies[12:].sum()
    assert error == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_zeros_and_outputs_that_nothing_depends_on(shape):
    nothing, gram = Layer(weight=np.zeros(shape)), inputs(shape[1], 0.1)
    factors = factors_from([nothing], find_basis([nothing], gram).basis, 4)
    np.testing.assert_array_equal(factors.product, np.zeros(shape))
    one = Layer(weight=layer(*shape).weight, curvature=np.zeros((shape[0], shape[0])))
    factors = factors_from([one], find_basis([one], gram).basis, min(shape))
    np.testing.assert_allclose(factors.product, one.weight, atol=1e-3)
    found = find_basis([one], np.zeros_like(gram))
    np.testing.assert_allclose(factors_from([one], found.basis, min(shape)).product, one.weight, atol=1e-3)


@pytest.mark.parametrize("rank", [-1, 0, 31])
def test_ranks_that_there_are_not(rank):
    one = layer(45, 30)
    basis = find_basis([one], inputs(30, 0.1)).basis
    with pytest.raises(ValueError, match=f"rank {rank} is outside 1 to 30"):
        factors_from([one], basis, rank)


def test_which_matrices_are_large():
    assert is_large([np.empty((1024, 3000))])
    assert not is_large([np.empty((1023, 3000))])
    assert is_large([np.empty((1000, 3000)), np.empty((24, 3000))])
    assert not is_large([np.empty((5000, 1023))])
