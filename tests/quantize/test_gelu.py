"""GELU in its tanh form where 8 bits follow, and in its exact form elsewhere."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.dynamic import quantize_matrices
from edgelr.quantize.gelu import use_tanh

KIND = helper.make_tensor_value_info


def feed_forward(*, narrowed: bool = False, given: bool = False) -> onnx.ModelProto:
    """A product of a GELU, whose channels may be narrowed; ``given``: the graph gives them too."""
    draw = np.random.default_rng(0)
    arrays = {"w": draw.normal(size=(32, 8)), "by": draw.uniform(0.5, 1, size=32)}
    read = "n" if narrowed else "a"
    nodes = [helper.make_node("Gelu", ["x"], ["a"])]
    nodes += [helper.make_node("Mul", ["a", "by"], ["n"])] if narrowed else []
    nodes.append(helper.make_node("MatMul", [read, "w"], ["y"], name="product"))
    outputs = [KIND("y", TensorProto.FLOAT, ["rows", 8])]
    outputs += [KIND("a", TensorProto.FLOAT, ["rows", 32])] if given else []
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [KIND("x", TensorProto.FLOAT, ["rows", 32])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("narrowed", [False, True])
def test_what_8_bits_follow_takes_the_quicker_form(narrowed, tmp_path):
    onnx.save(feed_forward(narrowed=narrowed), tmp_path / "fp32.onnx")
    quantize_matrices(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    proto = onnx.load(tmp_path / "int8.onnx")
    x = np.random.default_rng(1).normal(size=(40, 32), scale=2).astype(np.float32)
    exact, before = run(onnx.load(tmp_path / "fp32.onnx"), x), run(proto, x)
    assert use_tanh(proto) == 1
    after = run(proto, x)
    assert not np.array_equal(before, after)
    lost, more = (np.square(each).mean() for each in (before - exact, after - before))
    assert more < 0.1 * lost, "next to the rounding it is nothing"


@pytest.mark.parametrize("quantized", [False, True])
def test_what_anything_else_reads_stays_exact(quantized, tmp_path):
    proto = feed_forward(given=quantized)
    if quantized:
        onnx.save(proto, tmp_path / "fp32.onnx")
        quantize_matrices(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
        proto = onnx.load(tmp_path / "int8.onnx")
    before = proto.SerializeToString()
    assert use_tanh(proto) == 0
    assert proto.SerializeToString() == before


def test_16_bits_hold_the_difference():
    proto = feed_forward()
    for name, array in (("scale", np.float32(1e-3)), ("zero", np.uint16(0))):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(array), name))
    nodes = [
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
    ]
    product = onnx.NodeProto.FromString(proto.graph.node[1].SerializeToString())
    product.input[0] = "d"
    del proto.graph.node[1:]
    proto.graph.node.extend([*nodes, product])
    assert use_tanh(proto) == 0
    next(each for each in proto.graph.initializer if each.name == "zero").CopyFrom(
        numpy_helper.from_array(np.array(0, np.uint8), "zero")
    )
    assert use_tanh(proto) == 1
