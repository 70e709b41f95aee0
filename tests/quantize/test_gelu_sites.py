"""Which GELUs are between two products whose constants nothing else reads."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.gelu_sites import Site, find_sites

KIND = helper.make_tensor_value_info
WIDTH, OUT, DIM = 12, 4, 6


def feed_forward(*more, factored=False, outputs=("y",), swapped=False, before="Add"):
    """A bias, GELU, a product of one or two factors, and a bias; ``more``: other nodes."""
    draw = np.random.default_rng(0)
    arrays = {"b": draw.normal(size=WIDTH), "w": draw.normal(size=(WIDTH, OUT if factored else DIM))}
    arrays |= {"c": draw.normal(size=DIM)} | ({"u": draw.normal(size=(OUT, DIM))} if factored else {})
    nodes = [
        helper.make_node(before, ["b", "x"] if swapped else ["x", "b"], ["h"]),
        helper.make_node("Gelu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["p"]),
        *([helper.make_node("MatMul", ["p", "u"], ["q"])] if factored else []),
        helper.make_node("Add", ["q" if factored else "p", "c"], ["y"]),
        *more,
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    ends = [KIND(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [KIND("x", TensorProto.FLOAT, ["n", WIDTH])], ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("factored", [False, True])
def test_a_gelu_between_two_products(factored, swapped):
    proto = feed_forward(factored=factored, swapped=swapped)
    second = "u" if factored else None
    site = Site(read="h", bias="b", gelu="a", product="p", matrix="w", second=second, after="c")
    assert find_sites(proto.graph) == [site]


@pytest.mark.parametrize(
    "proto",
    [
        feed_forward(helper.make_node("Neg", ["a"], ["z"])),
        feed_forward(helper.make_node("Neg", ["h"], ["z"])),
        feed_forward(helper.make_node("Neg", ["w"], ["z"])),
        feed_forward(helper.make_node("Neg", ["c"], ["z"])),
        feed_forward(outputs=("y", "a")),
        feed_forward(before="Mul"),
    ],
    ids=["gelu", "what it reads", "matrix", "bias", "output", "no bias"],
)
def test_what_anything_else_reads_is_left_alone(proto: onnx.ModelProto):
    assert find_sites(proto.graph) == []
