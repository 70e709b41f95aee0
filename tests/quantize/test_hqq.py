"""Half-quadratic rounding: less of its objective than plain rounding, in every block."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgelr.quantize import hqq
from edgelr.quantize.hqq import POWER, Grid, fit, use_half_quadratic
from edgelr.quantize.weights import quantize_weights

DRAW = np.random.default_rng(0)


def plain(weights: np.ndarray, bits: int) -> Grid:
    """From the least to the largest weight of a block, 0 being one of the numbers."""
    low = np.minimum(np.nanmin(weights, axis=1, keepdims=True), 0)
    high = np.maximum(np.nanmax(weights, axis=1, keepdims=True), 0)
    scale = (high - low) / (2**bits - 1)
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(np.nan_to_num(weights) / scale + zero), 0, 2**bits - 1)
    return Grid(codes=codes, scale=scale, zero=zero)


def objective(weights: np.ndarray, grid: Grid) -> np.ndarray:
    return np.nansum(np.abs(weights - grid.values) ** POWER, axis=1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tail", [2, 5, 30])
def test_no_block_has_more_of_the_objective_and_most_have_less(bits, tail):
    weights = DRAW.standard_t(tail, size=(500, 32))
    weights[:100, 20:] = np.nan  # blocks that are shorter
    before = plain(weights, bits)
    after = fit(weights, before, bits)
    one, other = objective(weights, before), objective(weights, after)
    assert (other <= one * (1 + 1e-6)).all()
    assert np.mean(other < one) > 0.5
    assert ((after.codes >= 0) & (after.codes < 2**bits)).all()
    np.testing.assert_array_equal(after.zero, np.rint(after.zero))


def test_weights_on_a_grid_stay_what_they_are():
    codes = DRAW.integers(0, 16, size=(50, 32)).astype(float)
    codes[:, 0], codes[:, 1] = 0, 15
    weights = 0.3 * (codes - 7)
    found = fit(weights, plain(weights, 4), 4)
    np.testing.assert_allclose(found.values, weights, atol=1e-6)


def dequantized(path) -> np.ndarray:
    """What a 4-bit product of a graph multiplies by, ``[in and what fills the last block, out]``."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    node = next(node for node in onnx.load(path).graph.node if node.name.startswith("encoder.first"))
    packed, scales, zeros = (tensors[name] for name in node.input[1:4])
    outs, blocks, _ = packed.shape
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(outs, blocks, -1)
    halves = np.stack([zeros & 15, zeros >> 4], -1).reshape(outs, -1)[:, :blocks]
    values = scales.reshape(outs, blocks, 1) * (codes.astype(float) - halves[..., None])
    return values.reshape(outs, -1).T


@pytest.mark.parametrize("block_size", [16, 64, 128])  # of 64 inputs
def test_the_graph_has_less_of_the_objective_and_as_many_bytes(make_tiny, tmp_path, block_size):
    tiny = make_tiny("dense")
    target = tmp_path / "q.onnx"
    quantize_weights(tiny.path, target, ["encoder.first"], bits=4, block_size=block_size)
    weight = numpy_helper.to_array(onnx.load(tiny.path).graph.initializer[1])
    size, before = target.stat().st_size, dequantized(target)[:64]
    assert use_half_quadratic(tiny.path, target, 4) == 1
    after = dequantized(target)[:64]
    loss = [(np.abs(each - weight) ** POWER).sum() for each in (before, after)]
    assert loss[1] < 0.97 * loss[0]
    assert target.stat().st_size == size
    assert tiny.cosine(target) > 0.98, "what it writes is what ONNX Runtime reads"


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_known_is_not_looked_for_again(make_tiny, tmp_path, monkeypatch, bits):
    tiny = make_tiny("factored")
    known: hqq.Known = {}
    found = []
    for _ in range(2):
        quantize_weights(tiny.path, tmp_path / "q.onnx", bits=bits, block_size=32)
        assert use_half_quadratic(tiny.path, tmp_path / "q.onnx", bits, known) == 4
        found.append((tmp_path / "q.onnx").read_bytes())
        monkeypatch.setattr(hqq, "fit", None)
    assert found[0] == found[1]
