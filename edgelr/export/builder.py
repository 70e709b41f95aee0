"""Nodes and constants put in place of others in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgelr.runtime.subgraphs import drop_unread


class Builder:
    """Names and constants of the operators that one node becomes.

    Args:
        graph: Gets the constants.
        node: Gives the names.
    """

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        self.graph, self.name = graph, node.name or node.output[0]
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, what: str, values: Any) -> str:  # noqa: ANN401 - whatever numpy takes
        """Add a constant; its name."""
        name = f"{self.name}/{what}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, what: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; the name of its output."""
        name = f"{self.name}/{what}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def give(self, operator: str, output: str, *inputs: str) -> None:
        """Add a node whose output has the name that others read."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{self.name}/{operator}"))


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def drop_idle(graph: onnx.GraphProto) -> None:
    """Leave out nodes and constants that no output of the graph is made of, in place."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    replace_nodes(graph, kept[::-1])
    drop_unread(graph)


def attribute(node: onnx.NodeProto, name: str) -> Any:  # noqa: ANN401 - a number
    """An attribute of a node; None without it."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)
