"""Large constants that no scheme takes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgelr.quantize.constants import SMALLEST, store_as_int8

RANDOM = np.random.default_rng(0)
KERNELS = (RANDOM.normal(size=(64, 8, 3)) * np.geomspace(0.01, 10, 64)[:, None, None]).astype(np.float32)
POSITIONS = RANDOM.normal(size=(1, 128, 64)).astype(np.float32)
BIAS = RANDOM.normal(size=64).astype(np.float32)


def convolved():
    nodes = [
        helper.make_node("Conv", ["x", "kernels", "bias"], ["found"], pads=[1, 1]),
        helper.make_node("Transpose", ["found"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Add", ["turned", "positions"], ["y"]),
    ]
    constants = {"kernels": KERNELS, "positions": POSITIONS, "bias": BIAS}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 128, 64])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_large_constants_are_a_quarter_and_nearly_the_same():
    before, proto = convolved(), convolved()
    # The kernels are too few to be worth it, by themselves.
    assert KERNELS.size < SMALLEST <= POSITIONS.size
    assert store_as_int8(proto) == 1
    onnx.checker.check_model(proto)
    x = RANDOM.normal(size=(2, 8, 128)).astype(np.float32)
    one, other = (
        InferenceSession(each.SerializeToString()).run(None, {"x": x})[0] for each in (before, proto)
    )
    steps = np.abs(POSITIONS).max(axis=2, keepdims=True) / 127
    assert (np.abs(one - other) <= steps / 2 + 1e-5).all()
    assert len(proto.SerializeToString()) < len(before.SerializeToString()) - 2.8 * POSITIONS.size


def test_each_kernel_has_a_scale_of_its_own(monkeypatch):
    monkeypatch.setattr("edgelr.quantize.constants.SMALLEST", 1)
    proto = convolved()
    assert store_as_int8(proto) == 2, "a vector stays as it is"
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    assert stored["kernels.scale"].shape == (64, 1, 1)
    assert stored["positions.scale"].shape == (1, 128, 1)
    again = stored["kernels.int8"] * stored["kernels.scale"]
    relative = np.abs(again - KERNELS).max(axis=(1, 2)) / np.abs(KERNELS).max(axis=(1, 2))
    assert relative.max() < 1 / 127, "of the smallest kernel as of the largest"


@pytest.mark.parametrize("kept", [["positions"], ["positions", "kernels"]])
def test_what_is_to_stay_stays(kept):
    proto = convolved()
    before = proto.SerializeToString(deterministic=True)
    assert store_as_int8(proto, kept) == 0
    assert proto.SerializeToString(deterministic=True) == before


def test_integers_and_outputs_stay():
    proto = convolved()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((128, 128), np.int64), "numbers"))
    proto.graph.output.append(helper.make_tensor_value_info("positions", TensorProto.FLOAT, [1, 128, 64]))
    assert store_as_int8(proto) == 0


def test_convolutions_alone_are_worth_a_quantized_graph(tmp_path):
    from graph_models import FLOAT, model, random, run, write
    from onnx import helper

    from edgelr.quantize.stage import quantize_graph
    from edgelr.recipe.quantize import Quantize

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    shapes = ({"x": (FLOAT, [1, 64, 9])}, {"y": (FLOAT, None)})
    path = write(model(nodes, *shapes, {"w": random(64, 64, 3)}), tmp_path)
    left = quantize_graph(path, tmp_path / "small.onnx", Quantize.model_validate({"scheme": "int8-dynamic"}))
    assert left == ()
    assert (tmp_path / "small.onnx").stat().st_size < 0.35 * path.stat().st_size
    call = {"x": random(1, 64, 9)}
    one, other = run(path, call)[0].ravel(), run(tmp_path / "small.onnx", call)[0].ravel()
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.999
