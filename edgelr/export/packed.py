"""Projections of one value side by side: one product in place of several.

With one token a call, a node takes longer to start than to compute, and each dynamically quantized product
quantizes its input again. Query, key and value of an attention are three products of one value; here they are
one, and a Split. At int8 (width 512, one token, one thread of a server) that is 1.5 to 2 of 25 to 36 µs a
layer. With 256 tokens a call it is 6 to 9% slower: Split copies what it splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Constants = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class _Projection:
    """A product with a constant ``[in, out]``, and the sum with a constant ``[out]`` that alone reads it."""

    product: onnx.NodeProto
    biased: onnx.NodeProto | None
    bias: str

    @property
    def output(self) -> str:
        """What others read."""
        return str((self.biased or self.product).output[0])


def pack_projections(proto: onnx.ModelProto) -> int:
    """Multiply once by the matrices of all projections that read the same value, in place.

    Matrices that anything else reads are not moved: a head's, which a table is looked up in too, is stored
    once only as it is.

    Args:
        proto: An fp32 graph with its weights as initializers, of opset 13 or later.

    Returns:
        How many projections are now part of another product.
    """
    graph = proto.graph
    if any(
        attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute
    ):
        return 0  # a branch may read any value
    groups: dict[str, list[_Projection]] = {}
    for each in _projections(graph):
        groups.setdefault(each.product.input[0], []).append(each)
    packed = [group for group in groups.values() if len(group) > 1]
    places: dict[str, list[onnx.NodeProto]] = {}
    for group in packed:
        for each in group:
            places |= {node.output[0]: [] for node in (each.product, each.biased) if node is not None}
        # Biases are constants: everything that the first one needs is all that they need together.
        places[group[0].product.output[0]] = _pack(graph, group)
    nodes = [new for node in graph.node for new in places.get(node.output[0], [node])]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    read = {value.name for value in graph.output}.union(*(node.input for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return sum(map(len, packed))


def _projections(graph: onnx.GraphProto) -> list[_Projection]:
    """Products whose matrix and output may be moved, in the order of the nodes."""
    shapes = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    reads = Counter(name for node in graph.node for name in node.input)
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    outputs = {value.name for value in graph.output}
    found = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[0] in shapes or len(shapes.get(node.input[1], ())) != 2:
            continue
        product = node.output[0]
        add = adds.get(product) if reads[product] == 1 else None
        bias = next((name for name in add.input if name != product), "") if add is not None else ""
        if shapes.get(bias) != shapes[node.input[1]][1:]:
            add = None  # it is added to what is split
        each = _Projection(product=node, biased=add, bias="" if add is None else bias)
        if reads[node.input[1]] == 1 and not outputs & {product, each.output}:
            found.append(each)
    return found


def _pack(graph: onnx.GraphProto, group: Sequence[_Projection]) -> list[onnx.NodeProto]:
    """The nodes that compute a group; adds their constants to the graph."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    matrices = [numpy_helper.to_array(tensors[each.product.input[1]]) for each in group]
    biases = [
        numpy_helper.to_array(tensors[each.bias]) if each.bias else np.zeros(matrix.shape[1], np.float32)
        for each, matrix in zip(group, matrices, strict=True)
    ]
    first = group[0].product
    value, constant = f"{first.output[0]}.packed", f"{first.input[1]}.packed"
    sizes = np.array([matrix.shape[1] for matrix in matrices], np.int64)
    constants = {constant: np.concatenate(matrices, axis=1), f"{constant}.sizes": sizes}
    nodes = [helper.make_node("MatMul", [first.input[0], constant], [value], name=f"{value}.matmul")]
    if any(each.bias for each in group):
        constants[f"{constant}.bias"] = np.concatenate(biases)
        biased = f"{value}.biased"
        nodes.append(helper.make_node("Add", [value, f"{constant}.bias"], [biased], name=f"{value}.add"))
        value = biased
    outputs = [each.output for each in group]
    split = helper.make_node("Split", [value, f"{constant}.sizes"], outputs, name=f"{value}.split", axis=-1)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return [*nodes, split]
