"""Factors by identities: the squared error is the dropped energy, and no other factors have less of it."""

import numpy as np
import pytest

from edgelr.lowrank.svd import (
    FLOOR,
    Factors,
    balanced,
    decompose,
    decompose_jointly,
    decompose_outputs,
    orthonormal,
    roots,
    spectrum,
)

SHAPES = [(6, 9), (9, 6), (7, 7)]
METHODS = ["plain", "whitened", "kronecker"]


def problem(shape, seed=0):
    """A weight, inputs with a spread of scales, and their Gram matrix."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(200, shape[1])) * np.geomspace(1, 0.01, shape[1])
    return random.normal(size=shape), inputs, inputs.T @ inputs


def curved(size, seed=1, samples=50):
    """A curvature with a spread of scales."""
    random = np.random.default_rng(seed)
    gradients = random.normal(size=(samples, size)) * np.geomspace(1, 0.1, size)
    return gradients.T @ gradients


def known(method, shape, seed=0):
    """What each method knows: (gram, curvature)."""
    gram = problem(shape, seed)[2]
    return {"plain": (), "whitened": (gram,), "kronecker": (gram, curved(shape[0], seed + 1))}[method]


def error(weight, approximation, gram, curvature=None):
    """tr(F Δ G Δᵀ)"""
    change = weight - approximation
    moved = change @ gram @ change.T
    return float(np.trace(moved if curvature is None else curvature @ moved))


def floored_error(weight, approximation, gram, curvature):
    """The same with the floor, which is one of the smaller side: ``F``, or ``weightᵀ F weight``."""
    out, in_ = weight.shape
    if out > in_:  # Δ = weight (I - Q)
        change = np.linalg.lstsq(weight, weight - approximation, rcond=None)[0]
        curvature = weight.T @ curvature @ weight
    else:
        change = weight - approximation
    floor = FLOOR * np.trace(curvature) / len(curvature)
    return error(change, 0, gram, curvature + floor * np.eye(len(curvature)))


# --- one layer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_full_rank_returns_the_weight(shape, method):
    weight = problem(shape)[0]
    found = decompose(weight, *known(method, shape)).truncated(min(shape))
    np.testing.assert_allclose(found.product, weight, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_squared_error_is_the_dropped_energy(shape, rank):
    weight, inputs, gram = problem(shape)
    plain, whitened = decompose(weight), decompose(weight, gram)
    lost = np.square(weight - plain.truncated(rank).product).sum()
    assert lost == pytest.approx(plain.energies[rank:].sum(), rel=1e-6)
    lost = np.square(inputs @ (weight - whitened.truncated(rank).product).T).sum()
    assert lost == pytest.approx(whitened.energies[rank:].sum(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_squared_error_under_a_curvature_is_the_dropped_energy(shape, rank):
    weight, _, gram = problem(shape)
    curvature = curved(shape[0])
    found = decompose(weight, gram, curvature)
    approximation = found.truncated(rank).product
    lost = floored_error(weight, approximation, gram, curvature)
    assert lost == pytest.approx(found.energies[rank:].sum(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_energies_fall_and_are_none_negative(shape, method):
    energies = decompose(problem(shape)[0], *known(method, shape)).energies
    assert energies.shape == (min(shape),)
    assert np.all(np.diff(energies) <= 1e-12 * energies[0])
    assert np.all(energies >= 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_sum_to_the_output_energy(shape):
    weight, inputs, gram = problem(shape)
    whole = np.square(inputs @ weight.T).sum()
    assert decompose(weight, gram).energies.sum() == pytest.approx(whole)
    assert decompose(weight).energies.sum() == pytest.approx(np.square(weight).sum())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shape", SHAPES)
def test_each_method_is_the_best_by_what_it_knows(shape, seed):
    weight, _, gram = problem(shape, seed)
    curvature = curved(shape[0], seed + 1)
    plain, whitened, kronecker = (
        decompose(weight, *known(method, shape, seed)).truncated(3).product for method in METHODS
    )
    white = np.eye(shape[1])
    assert error(weight, plain, white) <= error(weight, whitened, white) * (1 + 1e-9)
    for other in (plain, kronecker):
        assert error(weight, whitened, gram) <= error(weight, other, gram) * (1 + 1e-9)
    for other in (plain, whitened):
        best, found = (floored_error(weight, each, gram, curvature) for each in (kronecker, other))
        assert best <= found * (1 + 1e-9)


def test_the_curvature_decides_which_directions_go():
    # Two outputs of the same energy, one of which the rest of the network ignores.
    weight, gram = np.diag([1.0, 1.0]), np.eye(2)
    kept = decompose(weight, gram, np.diag([1e-6, 1.0])).truncated(1).product
    np.testing.assert_allclose(kept, np.diag([0.0, 1.0]), atol=1e-2)


def test_a_curvature_of_one_number_changes_nothing():
    weight, _, gram = problem((6, 9))
    same = decompose(weight, gram, 7.0 * np.eye(6)).truncated(3).product
    np.testing.assert_allclose(same, decompose(weight, gram).truncated(3).product, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_fewer_inputs_than_dimensions_are_handled(shape):
    weight, inputs, _ = problem(shape)
    few = inputs[:3]
    for curvature in (None, curved(shape[0])):
        found = decompose(weight, few.T @ few, curvature)
        approximation = found.truncated(3).product
        np.testing.assert_allclose(few @ approximation.T, few @ weight.T, atol=1e-9)
        assert found.energies[3:].sum() <= 1e-9 * found.energies.sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_curvature_of_few_gradients_is_handled(shape):
    weight, _, gram = problem(shape)
    found = decompose(weight, gram, curved(shape[0], samples=2))
    np.testing.assert_allclose(found.truncated(min(shape)).product, weight, atol=1e-6)
    assert np.isfinite(found.truncated(2).product).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_curvature_of_nothing_still_gives_the_weight(shape):
    weight, _, gram = problem(shape)
    found = decompose(weight, gram, np.zeros((shape[0], shape[0])))
    np.testing.assert_allclose(found.truncated(min(shape)).product, weight, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_a_zero_weight_gives_zero(shape, method):
    found = decompose(np.zeros(shape), *known(method, shape))
    np.testing.assert_array_equal(found.truncated(2).product, np.zeros(shape))
    np.testing.assert_allclose(found.energies, 0, atol=1e-50)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_lower_rank_is_exact_at_that_rank(method):
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 2)) @ random.normal(size=(2, 9))
    found = decompose(weight, *known(method, (6, 9)))
    np.testing.assert_allclose(found.truncated(2).product, weight, atol=1e-7)


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_a_rank_out_of_range_is_named(rank):
    weight, _, gram = problem((6, 9))
    for found in (decompose(weight), decompose(weight, gram), decompose(weight, gram, curved(6))):
        with pytest.raises(
            ValueError, match=rf"rank {rank} is outside 1 to 6 for a weight of shape \(6, 9\)"
        ):
            found.truncated(rank)


def test_balanced_keeps_the_product_and_evens_the_scales():
    weight, _, gram = problem((8, 10))
    factors = decompose(1000 * weight, gram).truncated(4)
    assert np.linalg.norm(factors.up) == pytest.approx(np.linalg.norm(factors.down))
    np.testing.assert_allclose(factors.up.T @ factors.up, factors.down @ factors.down.T, atol=1e-8)
    odd = Factors(up=1000 * factors.up, down=factors.down)
    np.testing.assert_allclose(balanced(odd).product, odd.product, rtol=1e-9)


def test_roots_are_of_the_matrix_with_the_floor():
    matrix = curved(5)
    root, inverse = roots(matrix)
    np.testing.assert_allclose(root @ root, matrix + FLOOR * np.trace(matrix) / 5 * np.eye(5))
    np.testing.assert_allclose(root @ inverse, np.eye(5), atol=1e-12)


# --- several layers with one `down` -----------------------------------------------------------------

MEMBERS = (5, 4, 6)  # rows of each


def members(curvature, seed=0):
    """Weights, their common Gram matrix, curvatures (or None)."""
    random = np.random.default_rng(seed)
    _, _, gram = problem((1, 8), seed)
    weights = [random.normal(size=(rows, 8)) for rows in MEMBERS]
    curvatures = [curved(rows, seed + rows) for rows in MEMBERS] if curvature else None
    return weights, gram, curvatures


def pieces(product):
    return np.split(product, np.cumsum(MEMBERS)[:-1])


@pytest.mark.parametrize("curvature", [False, True])
def test_joint_factors_of_full_rank_are_the_separate_layers(curvature):
    weights, gram, curvatures = members(curvature)
    found = decompose_jointly(weights, gram, curvatures, [1.0, 2.0, 0.5])
    assert found.decomposition.energies.shape == (8,)
    for piece, weight in zip(pieces(found.decomposition.truncated(8).product), weights, strict=True):
        np.testing.assert_allclose(piece, weight, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("emphasis", [[1.0, 1.0, 1.0], [1.0, 20.0, 0.1]])
def test_energies_of_the_members_are_their_squared_errors(rank, emphasis):
    weights, gram, _ = members(curvature=False)
    found = decompose_jointly(weights, gram, None, emphasis)
    approximations = pieces(found.decomposition.truncated(rank).product)
    errors = [error(w, a, gram) for w, a in zip(weights, approximations, strict=True)]
    np.testing.assert_allclose(found.energies[:, rank:].sum(axis=1), errors, rtol=1e-6)
    assert found.decomposition.energies[rank:].sum() == pytest.approx(np.dot(emphasis, errors), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("emphasis", [[1.0, 1.0, 1.0], [1.0, 20.0, 0.1]])
def test_energies_of_the_members_are_their_squared_errors_under_their_curvatures(rank, emphasis):
    weights, gram, curvatures = members(curvature=True)
    found = decompose_jointly(weights, gram, curvatures, emphasis)
    approximations = pieces(found.decomposition.truncated(rank).product)
    errors = [error(w, a, gram, c) for w, a, c in zip(weights, approximations, curvatures, strict=True)]
    np.testing.assert_allclose(found.energies[:, rank:].sum(axis=1), errors, rtol=1e-6)


@pytest.mark.parametrize("curvature", [False, True])
def test_emphasis_moves_the_error_between_members(curvature):
    weights, gram, curvatures = members(curvature)

    def share(emphasis):
        lost = decompose_jointly(weights, gram, curvatures, emphasis).energies[:, 3:].sum(axis=1)
        return lost[0] / lost[1:].sum()

    assert share([10.0, 1.0, 1.0]) < share([1.0, 1.0, 1.0]) < share([0.1, 1.0, 1.0])


@pytest.mark.parametrize("shape", [(5, 8), (9, 8)])
@pytest.mark.parametrize("curvature", [False, True])
def test_one_member_alone_is_that_layer(shape, curvature):
    weight, _, gram = problem(shape)
    own = curved(shape[0]) if curvature else None
    joint = decompose_jointly([weight], gram, None if own is None else [own], [3.0])
    alone = decompose(weight, gram, own)
    if curvature and shape[0] < shape[1]:
        # The floor is in other coordinates: the same up to what it counts.
        lost = [
            error(weight, found.truncated(3).product, gram, own) for found in (joint.decomposition, alone)
        ]
        assert lost[0] == pytest.approx(lost[1], rel=0.1)
        return
    size = len(alone.energies)
    for rank in (1, 3, size):
        np.testing.assert_allclose(
            joint.decomposition.truncated(rank).product, alone.truncated(rank).product, atol=1e-7
        )
    np.testing.assert_allclose(joint.energies[0, :size].sum(), alone.energies.sum(), rtol=0.05)


def test_sharing_costs_error_and_saves_parameters():
    weights, gram, _ = members(curvature=False)
    together = decompose_jointly(weights, gram, None, [1.0, 1.0, 1.0]).energies[:, 3:].sum()
    assert together >= sum(decompose(weight, gram).energies[3:].sum() for weight in weights)


def test_members_that_are_zero_are_handled():
    weights, gram, curvatures = members(curvature=True)
    weights = [weights[0], 0 * weights[1], 0 * weights[2]]
    for given in (None, curvatures, [0 * each for each in curvatures]):
        found = decompose_jointly(weights, gram, given, [1.0, 1.0, 1.0])
        product = found.decomposition.truncated(8).product
        np.testing.assert_allclose(product, np.concatenate(weights), atol=1e-6)
        assert np.isfinite(found.energies).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_curvature", [False, True])
def test_the_outputs_alone_tell_as_much_as_the_inputs(shape, with_curvature):
    weight, _, gram = problem(shape)
    curvature = curved(shape[0]) if with_curvature else None
    from_outputs = decompose_outputs(weight, weight @ gram @ weight.T, curvature)
    full = min(shape)
    np.testing.assert_allclose(from_outputs.truncated(full).product, weight, atol=1e-8)
    if not with_curvature or shape[0] <= shape[1]:  # else the floor is added to another matrix
        expected = decompose(weight, gram, curvature)
        np.testing.assert_allclose(from_outputs.energies, expected.energies, atol=1e-9 * gram.trace())
        np.testing.assert_allclose(
            from_outputs.truncated(2).product, expected.truncated(2).product, atol=1e-6
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_of_nothing_keep_full_rank_exact(shape):
    weight, _, _ = problem(shape)
    nothing = np.zeros((shape[0], shape[0]))
    found = decompose_outputs(weight, nothing, nothing)
    np.testing.assert_allclose(found.truncated(min(shape)).product, weight, atol=1e-12)
    assert found.energies.sum() == 0


def anisotropic(shape: tuple[int, int], decay: float):
    """Energies that fall by ``decay`` over the smaller side, and inputs and gradients that are not white."""
    random = np.random.default_rng(0)
    out, in_ = shape
    x = random.normal(size=(4 * in_, in_)) * np.geomspace(1, decay, in_)
    g = random.normal(size=(4 * out, out)) * np.geomspace(1, decay, out)
    return random.normal(size=shape), x.T @ x, g.T @ g


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (64, 64)])
@pytest.mark.parametrize("with_curvature", [False, True])
def test_the_spectrum_is_that_of_the_whole_decomposition(shape, with_curvature):
    weight, gram, curvature = anisotropic(shape, 0.01)
    known = (gram, curvature) if with_curvature else (gram, None)
    energies = decompose(weight, *known).energies
    np.testing.assert_allclose(spectrum(weight, *known), energies, rtol=1e-6, atol=1e-12 * energies[0])


def test_the_spectrum_without_statistics_is_that_of_the_weight():
    weight, _, _ = anisotropic((12, 7), 1.0)
    np.testing.assert_allclose(spectrum(weight), decompose(weight).energies)


def test_from_outputs_there_are_as_many_ranks_as_inputs():
    wide = np.random.default_rng(0).normal(size=(9, 4))
    found = decompose_outputs(wide, wide @ wide.T)
    assert found.energies.shape == (4,)
    np.testing.assert_allclose(found.truncated(4).product, wide, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 6), (6, 6), (5, 9)])
@pytest.mark.parametrize("dependent", [False, True])
def test_an_orthonormal_basis_and_a_triangle(shape, dependent):
    matrix = np.random.default_rng(0).normal(size=shape) * 10.0 ** -np.arange(shape[1])
    if dependent:
        matrix[:, -1] = matrix[:, 0]
    basis, above = orthonormal(matrix)
    np.testing.assert_allclose(basis @ above, matrix, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    np.testing.assert_allclose(above, np.triu(above), atol=1e-15)
