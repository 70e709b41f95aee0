"""Graphs in plain operators compute what the fused ones do."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.builder import replace_nodes
from edgelr.export.plain import write_plainly

HEADS, WIDTH, VALUES = 2, 8, 6
DRAW = np.random.default_rng(0)


def attention(*, scale: float | None, mask: bool, extra: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Projections, an attention whose values are narrower, and a length."""
    weights = {
        "q": DRAW.normal(size=(WIDTH, WIDTH)),
        "qb": DRAW.normal(size=WIDTH),
        "k": DRAW.normal(size=(WIDTH, WIDTH)),
        "v": DRAW.normal(size=(WIDTH, VALUES)),
        "low": np.array(-3.4e38),
        "one": np.array(1.0),
    }
    inputs = ["q1", "k0", "v0", "", "", "bias" if mask else "", *extra]
    options = {} if scale is None else {"scale": scale}
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["q0"]),
        helper.make_node("Add", ["q0", "qb"], ["q1"]),
        helper.make_node("MatMul", ["x", "k"], ["k0"]),
        helper.make_node("MatMul", ["x", "v"], ["v0"]),
        helper.make_node("Sub", ["one", "mask"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "low"], ["bias"]),
        helper.make_node(
            "MultiHeadAttention",
            inputs,
            ["a"],
            "attention",
            domain="com.microsoft",
            num_heads=HEADS,
            **options,
        ),
        helper.make_node("ReduceL2", ["a", "last"], ["length"], name="length", keepdims=1),
        helper.make_node("Expand", ["length", "shape"], ["wide"]),
        helper.make_node("Div", ["a", "wide"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    tensors += [
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([2, 5, VALUES]), "shape"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5, WIDTH]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, [2, 1, 5, 5]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, VALUES])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(proto: onnx.ModelProto) -> Any:
    mask = np.ones((2, 1, 5, 5), np.float32)
    mask[1, :, :, 3:] = 0
    feeds = {"x": np.random.default_rng(1).normal(size=(2, 5, WIDTH)).astype(np.float32), "mask": mask}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("scale", [None, 0.2])
@pytest.mark.parametrize("mask", [True, False])
def test_nothing_changes_but_the_operators(scale: float | None, mask: bool) -> None:
    proto = attention(scale=scale, mask=mask)
    before = run(proto)
    assert write_plainly(proto) == 1
    onnx.checker.check_model(proto)
    kinds = {node.op_type for node in proto.graph.node}
    assert kinds & {"MultiHeadAttention", "ReduceL2", "Expand"} == set()
    assert not any(node.domain for node in proto.graph.node)
    np.testing.assert_allclose(run(proto), before, rtol=0, atol=2e-6)


def test_masks_keep_16_bits_useful() -> None:
    proto = attention(scale=None, mask=True)
    write_plainly(proto)
    (low,) = (numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name == "low")
    assert low == -100


def test_what_only_bounds_numbers_is_no_mask() -> None:
    proto = attention(scale=None, mask=True)
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(-3e38), "least"))
    proto.graph.node.append(helper.make_node("Max", ["x", "least"], ["bounded"]))
    proto.graph.output.append(helper.make_tensor_value_info("bounded", TensorProto.FLOAT, [2, 5, WIDTH]))
    write_plainly(proto)
    (least,) = (each for each in proto.graph.initializer if each.name == "least")
    assert numpy_helper.to_array(least) == np.float32(-3e38)


def test_an_expansion_that_something_else_needs_stays() -> None:
    proto = attention(scale=None, mask=True)
    proto.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, [2, 5, VALUES]))
    write_plainly(proto)
    assert "Expand" in {node.op_type for node in proto.graph.node}


def rotated(proto: onnx.ModelProto) -> None:
    """Take each query apart into heads of 4, join their halves the other way round, and join the heads."""
    graph = proto.graph
    constants = {"apart": [0, 0, HEADS, WIDTH // HEADS], "whole": [0, 0, -1], "axis": [3], "step": [1]}
    constants |= {"0": [0], "1": [1], "4": [4]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(each), name) for name, each in constants.items()
    )
    nodes = [
        helper.make_node("Reshape", ["q1", "apart"], ["split"]),
        helper.make_node("Transpose", ["split"], ["heads"], perm=[0, 2, 1, 3]),
        helper.make_node("Slice", ["heads", "0", "1", "axis", "step"], ["left"]),
        helper.make_node("Slice", ["heads", "1", "4", "axis", "step"], ["right"]),
        helper.make_node("Concat", ["right", "left"], ["turned"], axis=-1),
        helper.make_node("Transpose", ["turned"], ["tokens"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["tokens", "whole"], ["q2"]),
    ]
    place = next(at for at, node in enumerate(graph.node) if node.name == "attention")
    graph.node[place].input[0] = "q2"
    replace_nodes(graph, [*graph.node[:place], *nodes, *graph.node[place:]])


def test_the_size_of_heads_is_seen_through_a_rotation() -> None:
    """Which joins parts of each head: the scale is of their size, where none is written."""
    proto = attention(scale=None, mask=True)
    rotated(proto)
    before = run(proto)
    assert write_plainly(proto) == 1
    np.testing.assert_allclose(run(proto), before, rtol=0, atol=2e-6)
