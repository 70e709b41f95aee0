"""Which channels may be reordered; the graphs here are written by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.lowrank.free_channels import find_channels, reorder

HIDDEN = 6
SHAPES = {
    "first": (4, HIDDEN),
    "gate": (4, HIDDEN),
    "second": (HIDDEN, 3),
    "bias": (HIDDEN,),
    "scale": (),
    "short": (4,),
}


def model(*nodes: str, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """Nodes as ``y = MatMul h second``; the input is ``x [batch, 4]``."""
    draw = np.random.default_rng(0)
    made = []
    for node in nodes:
        output, _, call = node.partition(" = ")
        kind, *inputs = call.split()
        attributes = {"axis": -1} if kind == "Softmax" else {}
        made.append(helper.make_node(kind, inputs, [output], **attributes))
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name)
            for name, shape in SHAPES.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)})[0])


PLAIN = ("p = MatMul x first", "b = Add bias p", "s = Mul b scale", "g = Gelu s", "y = MatMul g second")
GATED = (
    "p = MatMul x first",
    "q = MatMul x gate",
    "s = Sigmoid q",
    "g = Mul p s",
    "b = Add g bias",
    "y = MatMul b second",
)


@pytest.mark.parametrize(
    ("nodes", "written"), [(PLAIN, ["first"]), (GATED, ["first", "gate"])], ids=["plain", "gated"]
)
def test_hidden_units_can_be_reordered(nodes, written):
    proto = model(*nodes)
    before = run(proto)
    (channels,) = find_channels(proto.graph)
    assert channels.size == HIDDEN
    assert sorted(channels.written) == written
    assert (channels.read, channels.vectors) == (["second"], ["bias"])
    old = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    order = [3, 0, 5, 1, 4, 2]
    reorder(proto.graph, channels, order)
    new = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    np.testing.assert_array_equal(new["first"], old["first"][:, order])
    np.testing.assert_array_equal(new["second"], old["second"][order])
    np.testing.assert_array_equal(new["bias"], old["bias"][order])
    np.testing.assert_allclose(run(proto), before, rtol=1e-5)


SHARED = ("p = MatMul x first", "q = MatMul x gate", "a = Add p bias", "b = Add q bias", "c = Mul a b")


@pytest.mark.parametrize(
    "nodes",
    [
        ("p = MatMul x first", "g = Softmax p", "y = MatMul g second"),
        ("p = MatMul x first", "g = Add p bias", "z = Softmax g", "y = MatMul g second"),
        ("p = MatMul x first", "t = Transpose p", "s = MatMul p t", "y = MatMul p second"),
        (*SHARED, "y = MatMul c second"),
        ("p = MatMul x first", "y = Gelu p"),
    ],
    ids=["another operator", "another reader", "a product", "a vector read twice", "nothing reads them"],
)
def test_anything_else_holds_them_in_place(nodes):
    assert find_channels(model(*nodes).graph) == []


def test_an_output_of_the_graph_holds_them_in_place():
    assert find_channels(model(*PLAIN, outputs=("y", "g")).graph) == []


def test_a_branch_that_reads_them_holds_them_in_place():
    """It gets them in the order that they are in; so does one that reads their weights."""
    for read in ("g", "first"):
        proto = model(*PLAIN)
        inner = helper.make_graph(
            [helper.make_node("Identity", [read], ["z"])],
            "branch",
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        )
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        proto.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))
        assert find_channels(proto.graph) == []
