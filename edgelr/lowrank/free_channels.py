"""Channels of a graph that may be reordered for free: those between two layers, with only elementwise work.

The hidden units of a feed-forward block are such channels. Reordering them changes the columns of the
constant matrices that write them, the rows of those that read them and the vectors between (biases); no node
is added, and the graph computes the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from edgelr.runtime.subgraphs import read_inside

# Operators whose every output number depends on the inputs' numbers of the same channel only.
ELEMENTWISE = frozenset(
    {"Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"}
    | {"LeakyRelu", "Mish", "Mul", "Neg", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt"}
    | {"Sub", "Swish", "Tanh"}
)


@dataclass(kw_only=True)
class Channels:
    """Channels that can be reordered together.

    Attributes:
        size: How many they are.
        written: Constants ``[in, size]`` that write them.
        read: Constants ``[size, out]`` that read them.
        vectors: Constants ``[..., size]`` between.
    """

    size: int
    written: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)


def find_channels(graph: onnx.GraphProto) -> list[Channels]:
    """Every set of channels that can be reordered, in the order of the nodes.

    Args:
        graph: Weights are initializers.
    """
    walk = _Walk(graph)
    found: list[Channels] = []
    done: set[str] = set()
    for node in graph.node:
        if walk.is_matrix(node) and node.output[0] not in done:
            channels, values = walk.around(node)
            if channels is not None:
                found.append(channels)
                done |= values
    return found


def reorder(graph: onnx.GraphProto, channels: Channels, order: Sequence[int]) -> None:
    """Put channel ``order[i]`` at place ``i``, in place.

    Args:
        graph: Where the channels were found.
        channels: As found.
        order: A permutation of ``range(channels.size)``.
    """
    assert sorted(order) == list(range(channels.size))
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for names, axis in ((channels.written, 1), (channels.read, 0), (channels.vectors, -1)):
        for name in names:
            array = np.take(numpy_helper.to_array(tensors[name]), order, axis=axis)
            tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))


class _Walk:
    """Follows values that share their channels, both ways, until constant matrices end them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)
        inside = read_inside(graph)  # a branch reads channels in the order that they are in
        self.reads = Counter(name for node in graph.node for name in node.input) + Counter(inside)
        self.outputs = {value.name for value in graph.output} | inside

    def is_matrix(self, node: onnx.NodeProto) -> bool:
        """Whether the node multiplies a value by a constant matrix from the right."""
        return bool(
            node.op_type == "MatMul"
            and node.input[0] not in self.shapes
            and len(self.shapes.get(node.input[1], ())) == 2
        )

    def around(self, start: onnx.NodeProto) -> tuple[Channels | None, set[str]]:
        """The channels of the node's output, or None where more than the above touches them; their values."""
        channels = Channels(size=self.shapes[start.input[1]][1])
        waiting, values = [start.output[0]], set[str]()
        while waiting:
            name = waiting.pop()
            if name in values:
                continue
            values.add(name)
            free = name not in self.outputs and self._upstream(name, channels, waiting)
            if not free or not all(
                self._downstream(node, channels, waiting) for node in self.consumers[name]
            ):
                return None, values
        constants = channels.written + channels.read + channels.vectors
        # A constant that is read elsewhere too would be reordered there as well.
        alone = all(self.reads[name] == 1 for name in constants)
        return (channels if alone and channels.read else None), values

    def _upstream(self, name: str, channels: Channels, waiting: list[str]) -> bool:
        """Whether what makes the value lets its channels be reordered; notes what goes along."""
        node = self.producers.get(name)
        if node is None:
            return False
        if self.is_matrix(node):
            channels.written.append(node.input[1])
            return int(self.shapes[node.input[1]][1]) == channels.size
        return _is_elementwise(node) and all(
            self._operand(operand, channels, waiting) for operand in node.input if operand
        )

    def _operand(self, name: str, channels: Channels, waiting: list[str]) -> bool:
        shape = self.shapes.get(name)
        if shape is None:
            waiting.append(name)
            return True
        if not shape or shape[-1] == 1:
            return True
        channels.vectors.append(name)
        return int(shape[-1]) == channels.size

    def _downstream(self, node: onnx.NodeProto, channels: Channels, waiting: list[str]) -> bool:
        """Whether a node that reads the value lets its channels be reordered; notes what goes along."""
        if self.is_matrix(node):
            channels.read.append(node.input[1])
            return True
        waiting.extend(node.output)
        return _is_elementwise(node)


def _is_elementwise(node: onnx.NodeProto) -> bool:
    return str(node.op_type) in ELEMENTWISE and not node.domain
