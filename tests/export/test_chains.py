"""Which pairs of matrices are factors; the graphs here are written by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.chains import find_chains

SHAPES = {"down": (8, 2), "up": (2, 6), "other": (2, 4), "wide": (6, 3), "bias": (6,)}


def graph(*nodes: str, outputs: tuple[str, ...] = ("y",)) -> onnx.GraphProto:
    """Nodes as ``y = MatMul h up``."""
    made = []
    for node in nodes:
        output, _, call = node.partition(" = ")
        kind, *inputs = call.split()
        made.append(helper.make_node(kind, inputs, [output]))
    used = {name for node in made for name in node.input}
    return helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in (SHAPES | {"layer.bias": (6,)}).items()
            if name in used
        ],
    )


def test_two_matrices_in_a_row_are_a_chain():
    (chain,) = find_chains(graph("h = MatMul x down", "p = MatMul h up", "y = Add p layer.bias"))
    assert (chain.key, chain.rank, chain.outs, chain.name) == (("down", "up"), 2, (6,), "layer")


def test_several_ups_share_one_down():
    (chain,) = find_chains(
        graph("h = MatMul x down", "y = MatMul h up", "z = MatMul h other", outputs=("y", "z"))
    )
    assert (chain.key, chain.outs, chain.name) == (("down", "up", "other"), (6, 4), "y")


def test_a_layer_that_is_called_twice_is_two_chains_with_one_key():
    chains = find_chains(
        graph(
            "h = MatMul x down", "y = MatMul h up", "i = MatMul x down", "z = MatMul i up", outputs=("y", "z")
        )
    )
    assert [chain.key for chain in chains] == [("down", "up")] * 2


def test_a_matrix_is_part_of_one_chain_only():
    (chain,) = find_chains(graph("h = MatMul x down", "i = MatMul h up", "y = MatMul i wide"))
    assert chain.key == ("down", "up")


@pytest.mark.parametrize(
    "nodes",
    [
        ("h = MatMul x down", "g = Relu h", "y = MatMul g up"),
        ("h = MatMul x down", "p = MatMul h up", "q = Relu h", "y = Concat p q"),
        ("h = MatMul x down", "p = MatMul h up", "y = MatMul h p"),
        ("h = MatMul x down", "p = MatMul h up", "y = Mul p up"),
    ],
    ids=["something between", "another reader", "not constant", "a constant read elsewhere"],
)
def test_others_are_none(nodes):
    assert find_chains(graph(*nodes)) == []


def test_an_output_of_the_graph_is_kept():
    assert find_chains(graph("h = MatMul x down", "y = MatMul h up", outputs=("y", "h"))) == []
