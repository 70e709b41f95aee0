import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgelr.runtime.subgraphs import drop_unread, read_inside, subgraphs


def nested():
    """An If whose branch has an If: what they read is in the graph around them."""

    def branch(name, nodes):
        given = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [given])

    inner = helper.make_node(
        "If",
        ["yes"],
        ["z"],
        name="inner",
        then_branch=branch("a", [helper.make_node("Identity", ["deep"], ["za"])]),
        else_branch=branch("b", [helper.make_node("Identity", ["x"], ["zb"])]),
    )
    outer = helper.make_node(
        "If",
        ["yes"],
        ["y"],
        name="outer",
        then_branch=branch("c", [inner]),
        else_branch=branch("d", [helper.make_node("Identity", ["x"], ["zd"])]),
    )
    constants = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("deep", "idle")]
    return helper.make_graph([outer], "g", [], [], constants)


def test_branches_at_any_depth_with_their_nodes():
    found = [(node.name, inner.name) for node, inner in subgraphs(nested())]
    assert sorted(found) == [("inner", "a"), ("inner", "b"), ("outer", "c"), ("outer", "d")]


def test_what_only_a_branch_reads_is_read():
    graph = nested()
    assert read_inside(graph) >= {"deep", "x", "yes"}
    drop_unread(graph)
    assert [tensor.name for tensor in graph.initializer] == ["deep"]
