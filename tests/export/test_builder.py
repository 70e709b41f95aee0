import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgelr.export.builder import Builder, attribute, drop_idle, replace_nodes


def test_nodes_and_constants_are_named_after_the_one_they_replace() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    old = helper.make_node("Softmax", ["x"], ["y"], "old", axis=-1)
    graph = helper.make_graph([old], "g", [value], [helper.make_tensor_value_info("y", 1, [1])])
    make = Builder(graph, old)
    doubled = make.add("Mul", "doubled", "x", make.constant("two", 2.0), axis=3)
    make.give("Relu", "y", doubled)
    assert [tensor.name for tensor in graph.initializer] == ["old/two"]
    assert [(node.name, list(node.output)) for node in make.nodes] == [
        ("old/doubled", ["old/doubled"]),
        ("old/Relu", ["y"]),
    ]
    assert (attribute(old, "axis"), attribute(old, "other")) == (-1, None)
    replace_nodes(graph, make.nodes)
    assert [node.op_type for node in graph.node] == ["Mul", "Relu"]


def test_what_no_output_is_made_of_goes() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Add", ["x", "c"], ["a"]),
        helper.make_node("Neg", ["a"], ["n"]),
    ]
    tensors = [numpy_helper.from_array(np.zeros(1, np.float32), "c")]
    ends = [helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "r")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    drop_idle(graph)
    assert [node.op_type for node in graph.node] == ["Relu"]
    assert len(graph.initializer) == 0
