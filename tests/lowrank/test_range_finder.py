import numpy as np
import pytest

from edgelr.lowrank import range_finder
from edgelr.lowrank.range_finder import leading, spectrum
from edgelr.lowrank.svd import Decomposition, decompose

SHAPES = [(60, 90), (90, 60), (64, 64)]


def problem(shape: tuple[int, int], decay: float):
    """Energies that fall by ``decay`` over the smaller side, and inputs and gradients that are not white."""
    random = np.random.default_rng(0)
    out, in_ = shape
    x = random.normal(size=(4 * in_, in_)) * np.geomspace(1, decay, in_)
    g = random.normal(size=(4 * out, out)) * np.geomspace(1, decay, out)
    return random.normal(size=shape), x.T @ x, g.T @ g


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(range_finder, "LARGE", 8)
    monkeypatch.setattr(range_finder, "SHARE", 1.0)


def lost(weight, gram, curvature, found: Decomposition, rank: int) -> float:
    """``tr(F Δ G Δᵀ)`` with the floor of the curvature."""
    delta = weight - found.truncated(rank).product
    if curvature is None:
        return float(np.einsum("oi,oi->", delta @ gram, delta))
    if weight.shape[0] <= weight.shape[1]:
        lifted = curvature + 0.01 * np.trace(curvature) / len(curvature) * np.eye(len(curvature))
        return float(np.einsum("oi,oi->", delta @ gram, lifted @ delta))
    return float("nan")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_curvature", [False, True])
def test_the_spectrum_is_that_of_the_whole_decomposition(shape, with_curvature):
    weight, gram, curvature = problem(shape, 0.01)
    known = (gram, curvature) if with_curvature else (gram, None)
    energies = decompose(weight, *known).energies
    np.testing.assert_allclose(spectrum(weight, *known), energies, rtol=1e-6, atol=1e-12 * energies[0])


def test_the_spectrum_without_statistics_is_that_of_the_weight():
    weight, _, _ = problem((12, 7), 1.0)
    np.testing.assert_allclose(spectrum(weight), decompose(weight).energies)


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [1.0, 0.1, 1e-3], ids=["flat", "slow", "fast"])
@pytest.mark.parametrize("with_curvature", [False, True])
@pytest.mark.parametrize("form", [0.0, 2.0], ids=["formed", "never-formed"])
def test_the_error_is_within_a_hundredth_of_the_best(shape, decay, with_curvature, form, monkeypatch):
    monkeypatch.setattr(range_finder, "_FORM", form)
    weight, gram, curvature = problem(shape, decay)
    if not with_curvature:
        curvature = None
    energies = spectrum(weight, gram, curvature)
    for rank in (1, 8, 20):
        found = leading(weight, gram, curvature, rank, energies)
        assert found is not None
        assert len(found.energies) == rank
        best = energies[rank:].sum()
        assert energies.sum() - found.energies.sum() <= 1.01 * best
        measured = lost(weight, gram, curvature, found, rank)
        assert np.isnan(measured) or measured == pytest.approx(best, rel=0.01)


@pytest.mark.usefixtures("everything_is_large")
def test_the_same_factors_every_time():
    weight, gram, curvature = problem((60, 90), 0.1)
    energies = spectrum(weight, gram, curvature)
    one, two = (leading(weight, gram, curvature, 9, energies) for _ in range(2))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.up, two.up)
    np.testing.assert_array_equal(one.down, two.down)


@pytest.mark.usefixtures("everything_is_large")
def test_what_is_not_good_enough_is_given_up():
    # A spectrum that promises less error than is possible: no basis can be within the tolerance of it.
    weight, gram, _ = problem((60, 90), 1.0)
    promised = spectrum(weight, gram)
    promised[:8] += promised[8:].sum() * 0.5 / 8
    promised[8:] *= 0.5
    assert leading(weight, gram, None, 8, promised) is None


def test_small_matrices_and_large_ranks_are_left_to_the_exact_decomposition():
    weight, gram, _ = problem((60, 90), 1.0)
    assert leading(weight, gram, None, 4, spectrum(weight, gram)) is None


def test_a_share_of_a_large_side_is_too_much(monkeypatch):
    monkeypatch.setattr(range_finder, "LARGE", 8)
    weight, gram, _ = problem((60, 90), 0.1)
    energies = spectrum(weight, gram)
    assert leading(weight, gram, None, 15, energies) is not None
    assert leading(weight, gram, None, 16, energies) is None
