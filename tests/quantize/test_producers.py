"""Which constants scale a value's channels and nothing else."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.producers import Producers

KIND = helper.make_tensor_value_info
ATTENTION = helper.make_node("Attention", ["q", "k", "v1"], ["c"], q_num_heads=2, kv_num_heads=2)


def model(*more, outputs=("y",)):
    """An attention over x whose values are a product and a bias, and ReLU between two products."""
    draw, nodes = np.random.default_rng(0), []
    for name, value, made in (("wq", "x", "q"), ("wk", "x", "k"), ("wv", "x", "v"), ("down", "c", "r")):
        nodes.append(helper.make_node("MatMul", [value, name], [made], name=name))
        if name == "wv":
            nodes += [helper.make_node("Add", ["v", "bv"], ["v1"]), ATTENTION]
    nodes += [
        helper.make_node("Relu", ["r"], ["a"]),
        helper.make_node("MatMul", ["a", "up"], ["y"], name="up"),
    ]
    nodes += more
    arrays = {name: draw.normal(size=(8, 8)) for name in ("wq", "wk", "wv", "down", "up")}
    arrays |= {"bv": draw.normal(size=8)}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    ends = [KIND(name, TensorProto.FLOAT, ["b", "t", 8]) for name in outputs]
    graph = helper.make_graph(nodes, "g", [KIND("x", TensorProto.FLOAT, ["b", "t", 8])], ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def run(proto):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize(
    ("value", "reader", "constants"),
    [("c", "down", ("bv", "wv")), ("a", "up", ("down",))],
    ids=["attention", "relu"],
)
def test_what_is_divided_before_is_multiplied_after(value, reader, constants):
    proto = model()
    assert Producers(proto.graph, ["wv", "down"]).constants(value, 1, 8) == constants
    expected, by = run(proto), np.linspace(0.2, 5, 8).astype(np.float32)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in constants:
            tensor.CopyFrom(numpy_helper.from_array(array / by, tensor.name))
        elif tensor.name == reader:
            tensor.CopyFrom(numpy_helper.from_array(array * by[:, None], tensor.name))
    np.testing.assert_allclose(run(proto), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "proto",
    [
        model(helper.make_node("Relu", ["v"], ["z"])),
        model(helper.make_node("Relu", ["c"], ["z"])),
        model(helper.make_node("Relu", ["bv"], ["z"])),
        model(outputs=("y", "v1")),
    ],
    ids=["something else reads the product", "or the value", "or the bias", "it is an output"],
)
def test_where_anything_else_would_change_there_are_none(proto):
    assert Producers(proto.graph, ["wv", "down"]).constants("c", 1, 8) == ()


def test_a_product_that_is_not_named_and_a_norm_have_none():
    assert Producers(model().graph, ["down"]).constants("c", 1, 8) == ()
    norm = helper.make_node("LayerNormalization", ["y", "bv"], ["z"])
    assert Producers(model(norm).graph, ["up"]).constants("z", 0, 8) == ()
