"""Wide channels of what products read: narrower for int8, the same in fp32."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgelr.quantize.dynamic import quantize_matrices
from edgelr.quantize.pairs import round_pairs
from edgelr.quantize.smooth import Seen, Smoothing, divisors, expected_error

DRAW = np.random.default_rng(0)


def seen(values: list[np.ndarray]) -> Seen:
    return Seen(
        high=np.stack([each.max(axis=0, initial=0) for each in values]),
        low=np.stack([each.min(axis=0, initial=0) for each in values]),
        energy=np.mean([np.square(each).mean(axis=0) for each in values], axis=0),
    )


def wide_calls(width: float = 30.0) -> list[np.ndarray]:
    """Calls in which two channels of 64 are much wider than the others."""
    calls = [DRAW.normal(size=(20, 64)) for _ in range(6)]
    for each in calls:
        each[:, (5, 40)] *= width
    return calls


@pytest.fixture
def wide(make_tiny):
    tiny = make_tiny("dense")
    tiny.feeds[:] = [{"x": each.astype(np.float32)} for each in wide_calls()]
    return tiny


def test_in_fp32_nothing_changes_and_int8_loses_less(wide, tmp_path):
    nodes = ["encoder.first", "encoder.second"]
    assert Smoothing(wide.path, wide.feeds).smooth(wide.path, tmp_path / "s.onnx", nodes) >= 1
    np.testing.assert_allclose(wide.run(tmp_path / "s.onnx"), wide.run(), rtol=1e-4, atol=1e-4)
    losses = []
    for source in (wide.path, tmp_path / "s.onnx"):
        quantize_matrices(source, tmp_path / "q.onnx", nodes)
        losses.append(1 - wide.cosine(tmp_path / "q.onnx"))
    assert losses[1] < 0.5 * losses[0]


def test_the_expected_error_is_what_a_product_loses():
    calls, weight = wide_calls(), DRAW.normal(size=(64, 24))
    codes, scales = round_pairs(weight)
    measured = []
    for each in calls:
        low = min(each.min(), 0)
        step = (max(each.max(), 0) - low) / 255
        rounded = np.rint((each - low) / step) * step + low
        measured.append(np.square(rounded @ (codes * scales) - each @ weight).sum(axis=1).mean())
    assert expected_error(seen(calls), weight, np.ones(64)) == pytest.approx(np.mean(measured), rel=0.2)


def test_wide_channels_are_narrowed_and_none_is_widened():
    found = divisors(seen(wide_calls()), DRAW.normal(size=(64, 24)))
    assert found is not None
    assert found.min() == 1.0
    assert set(np.argsort(found)[-2:]) == {5, 40}


@pytest.mark.parametrize(
    ("calls", "weight"),
    [
        (wide_calls(1.0), DRAW.normal(size=(64, 24))),  # as wide as each other: it would not be worth a pass
        ([np.zeros((4, 64))], DRAW.normal(size=(64, 24))),
        (wide_calls(), np.zeros((64, 24))),
    ],
)
def test_where_the_error_does_not_halve_nothing_is_done(calls, weight):
    assert divisors(seen(calls), weight) is None


def test_a_channel_that_never_woke_is_left_alone():
    calls = wide_calls()
    for each in calls:
        each[:, 7] = 0
    found = divisors(seen(calls), DRAW.normal(size=(64, 24)))
    assert found is not None
    assert found[7] == 1.0


def test_one_division_for_products_of_one_input_and_others_read_the_value_itself(wide, tmp_path):
    proto = onnx.load(wide.path)
    other = DRAW.normal(size=(64, 8)).astype(np.float32)
    for name in ("encoder.third", "encoder.fourth"):
        proto.graph.initializer.append(numpy_helper.from_array(other, f"{name}.weight"))
        proto.graph.node.append(helper.make_node("MatMul", ["x", f"{name}.weight"], [f"{name}.y"], name=name))
        proto.graph.output.append(helper.make_tensor_value_info(f"{name}.y", 1, None))
    onnx.save(proto, wide.path)
    nodes = ["encoder.first", "encoder.third"]
    assert Smoothing(wide.path, wide.feeds).smooth(wide.path, tmp_path / "s.onnx", nodes) == 1
    read = {node.name: node.input[0] for node in onnx.load(tmp_path / "s.onnx").graph.node}
    assert (read["encoder.first"], read["encoder.third"]) == ("x.narrow", "x.narrow")
    assert read["encoder.fourth"] == "x"
    np.testing.assert_allclose(wide.run(tmp_path / "s.onnx"), wide.run(), rtol=1e-4, atol=1e-4)


def test_between_two_factors_it_costs_nothing(wide_inside, tmp_path):
    tiny, matrix = wide_inside
    proto = onnx.load(tiny.path)
    nodes = [node.name for node in proto.graph.node if node.op_type == "MatMul"]
    assert Smoothing(tiny.path, tiny.feeds).smooth(tiny.path, tmp_path / "s.onnx", nodes) >= 1
    after = onnx.load(tmp_path / "s.onnx")
    assert next(node for node in after.graph.node if node.name == "encoder.first.up").input[0] == "first.h"
    (down,) = (each for each in after.graph.initializer if each.name == "encoder.first.down.weight")
    shrunk = (matrix / numpy_helper.to_array(down)).mean(axis=0)
    assert set(np.argsort(shrunk)[-2:]) == {3, 17}
    np.testing.assert_allclose(tiny.run(tmp_path / "s.onnx"), tiny.run(), rtol=1e-3, atol=1e-3)


def test_a_matrix_that_something_else_reads_stays(make_tiny, tmp_path):
    tiny = make_tiny("tied")
    for feed in tiny.feeds:
        feed["x"][:, 5] *= 100
    smoothing = Smoothing(tiny.path, tiny.feeds)
    smoothing.smooth(tiny.path, tmp_path / "s.onnx", ["head"])
    before, after = (onnx.load(path).graph for path in (tiny.path, tmp_path / "s.onnx"))
    assert [node.input for node in before.node] == [node.input for node in after.node]
