"""The constants that a value's channels can be scaled in, for nothing: those of the product that makes it.

Between two factors, and from an attention's values to its output, each channel of a value is a channel of a
matrix before it: whatever that column and its bias are divided by, the value is. In int8 a column has a scale
of its own, so that its codes do not change. Through a norm, or an activation but ReLU, this does not go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from edgelr.runtime.subgraphs import read_inside

# The input whose channels are those of the output; ReLU of what is divided is its output divided.
_VALUE_OF = {"Attention": 2, "MultiHeadAttention": 2, "Relu": 0}


class Producers:
    """What made the values of a graph, as long as its nodes stay as they are.

    Args:
        graph: With its weights as initializers.
        nodes: Names of the products whose matrices may be scaled.
    """

    def __init__(self, graph: Any, nodes: Collection[str]) -> None:  # noqa: ANN401 - onnx is not typed
        self._nodes = set(nodes)
        self._sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self._made_by = {output: node for node in graph.node for output in node.output}
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._given = {value.name for value in graph.output} | read_inside(graph)

    def constants(self, value: str, readers: int, width: int) -> tuple[str, ...]:
        """Find the matrix ``[in, width]`` and the bias ``[width]`` that a value is made of.

        Args:
            value: Some channels.
            readers: How many nodes know that it is scaled.
            width: Number of the channels.

        Returns:
            Names of constants; none where anything else would change.
        """
        if self._reads[value] > readers or value in self._given:
            return ()
        found: list[str] = []
        while (node := self._made_by.get(value)) is not None and value == node.output[0]:
            constant = next((name for name in node.input if name in self._sizes), "")
            if node.op_type == "MatMul" and node.name in self._nodes and constant == node.input[1]:
                fits = self._alone(constant) and self._sizes[constant][1:] == [width]
                return (*found, constant) if fits else ()
            if node.op_type == "Add" and self._alone(constant) and self._sizes[constant] == [width]:
                found.append(constant)
                value = next(name for name in node.input if name != constant)
            elif node.op_type in _VALUE_OF and len(node.output) == 1:
                value = node.input[_VALUE_OF[node.op_type]]
            else:
                break
            if not self._alone(value):
                break
        return ()

    def _alone(self, name: str) -> bool:
        """Whether one node reads a value or constant, and nothing else does."""
        return self._reads[name] == 1 and name not in self._given
