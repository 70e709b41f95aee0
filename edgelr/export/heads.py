"""Cut the channels of attention heads that are zero out of an exported graph.

Layers of narrow heads are traced as plain linears with rows (or columns) of zeros, so that any attention
code and every fusion work with them as they are. Once attention is one operator, the zeros can go: from the
weights before it, from the operator, and from the weights after it. What is left computes the same with less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

_PAST_KEY = 6  # of MultiHeadAttention's inputs; the past values follow


@dataclass(frozen=True, kw_only=True)
class _Constant:
    """Where a node reads a constant."""

    node: onnx.NodeProto
    place: int


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """The constants of a projection: matrix ``[in, out]``, and bias ``[out]`` where there is one."""

    weight: _Constant
    bias: _Constant | None


class _Graph:
    """Constants, producers and readers of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.made_by = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def array(self, constant: _Constant) -> Array:
        return np.asarray(numpy_helper.to_array(self.constants[constant.node.input[constant.place]]))

    def replace(self, constant: _Constant, array: Array) -> None:
        """Change what a node reads; another node that reads the same (equal biases are one) keeps it."""
        name = constant.node.input[constant.place]
        made = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if len(self.readers[name]) == 1:
            self.constants[name].CopyFrom(made)
            return
        self.readers[name].remove(constant.node)
        made.name = f"{name}.{constant.node.output[0]}"
        self.graph.initializer.append(made)
        self.constants[made.name] = self.graph.initializer[-1]
        self.readers[made.name] = [constant.node]
        constant.node.input[constant.place] = made.name

    def before(self, value: str) -> _Layer | None:
        """The projection that makes a value, through additions and factors that are constants."""
        bias = None
        while (node := self.made_by.get(value)) is not None:
            readers = [reader for reader in self.readers.get(value, []) if reader.op_type != "Shape"]
            if len(readers) > 1:
                return None  # something else reads it too, at its full width
            place = next((at for at, name in enumerate(node.input) if name in self.constants), None)
            if place is None:
                return None
            found = _Constant(node=node, place=place)
            if node.op_type == "MatMul":
                return _Layer(weight=found, bias=bias)
            if node.op_type == "Add" and bias is None:
                bias = found
            elif node.op_type != "Mul" or self.array(found).size > 1:
                return None
            value = node.input[1 - place]
        return None

    def after(self, value: str) -> _Constant | None:
        """The matrix ``[in, out]`` that alone reads a value."""
        readers = self.readers.get(value, [])
        if len(readers) != 1 or readers[0].op_type != "MatMul" or readers[0].input[1] not in self.constants:
            return None
        return _Constant(node=readers[0], place=1)


def cut_zero_channels(proto: onnx.ModelProto) -> int:
    """Make every MultiHeadAttention as narrow as its weights allow, in place.

    Args:
        proto: A graph with its weights as initializers and attention fused.

    Returns:
        How many pairs of layers became narrower: query and key count once, value and output once.
    """
    graph = _Graph(proto.graph)
    cut = 0
    for node in proto.graph.node:
        # Keys and values that are kept have the size that is declared of them: tasks/narrow_caches.py.
        if node.op_type == "MultiHeadAttention" and not any(node.input[_PAST_KEY:]):
            heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
            cut += _cut_query_key(graph, node, heads) + _cut_value_output(graph, node, heads)
    return cut


def _cut_query_key(graph: _Graph, node: onnx.NodeProto, heads: int) -> int:
    layers = [graph.before(name) for name in node.input[:2]]
    if not all(layers):
        return 0
    query, key = (layer for layer in layers if layer is not None)
    # A channel that is zero on either side adds nothing to any score.
    used = _used(graph, query, heads) & _used(graph, key, heads)
    size = _size(used)
    if size == len(used):
        return 0
    if not any(attribute.name == "scale" for attribute in node.attribute):
        node.attribute.append(helper.make_attribute("scale", len(used) ** -0.5))
    for layer in (query, key):
        _narrow(graph, layer, heads, size)
    return 1


def _cut_value_output(graph: _Graph, node: onnx.NodeProto, heads: int) -> int:
    value, output = graph.before(node.input[2]), graph.after(node.output[0])
    if value is None or output is None:
        return 0
    used = _used(graph, value, heads)
    size = _size(used)
    if size == len(used):
        return 0
    _narrow(graph, value, heads, size)
    rows = graph.array(output)
    graph.replace(output, rows.reshape(heads, -1, rows.shape[1])[:, :size].reshape(heads * size, -1))
    return 1


def _used(graph: _Graph, layer: _Layer, heads: int) -> NDArray[np.bool_]:
    """Which channels of a head are not zero in every head, ``[head_size]``."""
    used = np.abs(graph.array(layer.weight)).max(axis=0) > 0
    if layer.bias is not None:
        used = used | (np.broadcast_to(graph.array(layer.bias), used.shape) != 0)
    return np.asarray(used.reshape(heads, -1).any(axis=0))


def _size(used: Sequence[bool] | NDArray[np.bool_]) -> int:
    """Channels up to the last one that is used, one at least."""
    return max(1, int(np.flatnonzero(used).max(initial=0)) + 1)


def _narrow(graph: _Graph, layer: _Layer, heads: int, size: int) -> None:
    """Keep the first ``size`` channels of each head."""
    for constant in (layer.weight, layer.bias):
        if constant is not None:
            array = graph.array(constant)
            kept = array.reshape(*array.shape[:-1], heads, -1)[..., :size]
            graph.replace(constant, kept.reshape(*array.shape[:-1], heads * size))
