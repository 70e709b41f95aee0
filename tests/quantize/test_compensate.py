import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgelr.quantize.compensate import Rounding, _Grid
from edgelr.quantize.weights import quantize_weights

DRAW = np.random.default_rng(0)


@pytest.fixture
def correlated(make_tiny):
    """A graph, and many calls whose inputs depend on each other, as those of trained layers do."""
    tiny = make_tiny("factored")
    mixing = DRAW.normal(size=(12, 64)) * np.geomspace(3, 0.1, 12)[:, None]
    tiny.feeds[:] = [
        {"x": (DRAW.normal(size=(30, 12)) @ mixing + 0.1 * DRAW.normal(size=(30, 64))).astype(np.float32)}
        for _ in range(16)
    ]
    return tiny


def products(tiny):
    return [node.name for node in onnx.load(tiny.path).graph.node if node.op_type == "MatMul"]


@pytest.mark.parametrize("block_size", [16, 32, 128])  # of inputs of 64, 40, 160 and 40
def test_errors_make_up_for_each_other(correlated, tmp_path, block_size):
    target = tmp_path / "q.onnx"
    quantize_weights(correlated.path, target, bits=4, block_size=block_size)
    plain, bytes_before = correlated.cosine(target), target.stat().st_size
    assert Rounding(correlated.path, correlated.feeds).improve(target, products(correlated)) == 4
    assert 1 - correlated.cosine(target) < 0.6 * (1 - plain)
    assert target.stat().st_size == bytes_before


def test_only_codes_change_and_only_those_of_the_named(correlated, tmp_path):
    target = tmp_path / "q.onnx"
    quantize_weights(correlated.path, target, bits=4, block_size=32)
    before = {t.name: t.raw_data for t in onnx.load(target).graph.initializer}
    Rounding(correlated.path, correlated.feeds).improve(target, ["encoder.first.down"])
    after = {t.name: t.raw_data for t in onnx.load(target).graph.initializer}
    assert [name for name in before if before[name] != after[name]] == ["encoder.first.down.weight_Q4"]


def test_what_is_known_is_not_looked_for_again(correlated, tmp_path, monkeypatch):
    target = tmp_path / "q.onnx"
    rounding = Rounding(correlated.path, correlated.feeds)
    found = []
    for _ in range(2):
        quantize_weights(correlated.path, target, bits=4, block_size=32)
        rounding.improve(target, products(correlated))
        found.append(target.read_bytes())
        monkeypatch.setattr(_Grid, "rounded", None)
    assert found[0] == found[1]


def test_where_it_does_not_help_the_plain_codes_stay(make_tiny, tmp_path):
    """Statistics of calls that say nothing about those that are held out."""
    tiny = make_tiny("dense")
    narrow = np.zeros((64, 64), np.float32)
    narrow[0, 0] = 100.0
    others = DRAW.normal(size=(64, 64)).astype(np.float32)
    feeds = [{"x": others if number % 4 == 3 else narrow} for number in range(8)]
    target = tmp_path / "q.onnx"
    quantize_weights(tiny.path, target, ["encoder.first"], bits=4, block_size=32)
    before = target.read_bytes()
    assert Rounding(tiny.path, feeds).improve(target, ["encoder.first"]) in {0, 1}
    plain_or_better = tiny.cosine(target)
    target.write_bytes(before)
    assert plain_or_better >= tiny.cosine(target) - 1e-3


def test_codes_are_those_that_the_kernel_reads(make_tiny, tmp_path):
    """What a grid says a code stands for is what ONNX Runtime multiplies by."""
    tiny = make_tiny("dense")
    target = tmp_path / "q.onnx"
    quantize_weights(tiny.path, target, ["encoder.first"], bits=4, block_size=32)
    proto = onnx.load(target)
    tensors = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    names = [f"encoder.first.weight_{part}" for part in ("Q4", "scales", "zero_points")]
    grid = _Grid(*(tensors[name] for name in names))
    weight = numpy_helper.to_array(onnx.load(tiny.path).graph.initializer[1])
    assert np.abs(grid.values(grid.codes, 64) - weight).max() <= tensors[names[1]].max() * 0.51
    np.testing.assert_array_equal(grid.pack(grid.codes), tensors[names[0]])
