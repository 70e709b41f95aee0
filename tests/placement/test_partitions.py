"""How a graph is cut, and that it is cut as ONNX Runtime's own tool says."""

import random

import onnx
import pytest
from onnx import TensorProto, helper

from edgelr.placement.partitions import partitions
from edgelr.placement.seen import nodes_of


def graph(edges: dict[str, tuple[str, ...]], taken: str) -> onnx.ModelProto:
    """Nodes that read the outputs of others; those in ``taken`` are of an operator that CoreML has."""
    nodes = [
        helper.make_node(
            "Relu" if name in taken else "Erfinv", [f"{giver}_" for giver in givers], [f"{name}_"], name
        )
        for name, givers in edges.items()
    ]
    inputs = [helper.make_tensor_value_info("x_", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info(f"{name}_", TensorProto.FLOAT, [1]) for name in edges]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs))


def parts(model: onnx.ModelProto) -> list[str]:
    nodes = nodes_of(model)
    found = partitions(nodes, [node.operator == "Relu" for node in nodes])
    return ["".join(nodes[place].name for place in part) for part in found]


@pytest.mark.parametrize(
    ("edges", "taken", "expected"),
    [
        ({"a": ("x",), "b": ("a",), "c": ("b",)}, "abc", ["abc"]),
        ({"a": ("x",), "b": ("a",), "c": ("b",)}, "ac", ["a", "c"]),
        ({"a": ("x",), "b": ("x",), "c": ("a", "b")}, "ac", ["ac"]),  # b reads nothing of a: it runs first
        ({"a": ("x",), "b": ("a",), "c": ("a",), "d": ("b", "c")}, "acd", ["ac", "d"]),
        ({"a": ("x",)}, "", []),
    ],
)
def test_a_part_ends_where_something_else_needs_it(
    edges: dict[str, tuple[str, ...]], taken: str, expected: list[str]
) -> None:
    assert parts(graph(edges, taken)) == expected


def test_parts_are_those_of_onnxruntime_tools() -> None:
    from onnxruntime.tools.mobile_helpers import usability_checker as checker

    class Relus:
        def is_op_supported(self, node: onnx.NodeProto) -> bool:
            return node.op_type == "Relu"

    draw = random.Random(0)
    for _ in range(40):
        names = "abcdefghijklmnop"
        edges = {
            name: tuple(draw.sample(["x", *names[:place]], min(place + 1, draw.randint(1, 2))))
            for place, name in enumerate(names)
        }
        model = graph(edges, "".join(draw.sample(names, 9)))
        info = checker.check_partitioning(model.graph, Relus(), require_fixed_input_sizes=False)
        theirs = sorted("".join(sorted(node.name for node in group)) for group in info.supported_groups)
        assert sorted("".join(sorted(part)) for part in parts(model)) == theirs
