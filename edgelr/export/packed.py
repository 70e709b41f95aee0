"""Projections of one value side by side: one product in place of several.

With one token a call, a node takes longer to start than to compute, and each dynamically quantized product
quantizes its input again. Query, key and value of an attention are three products of one value; here they are
one, and a Split. At int8 (width 512, one token, one thread of a server) that is 1.5 to 2 of 25 to 36 µs a
layer. With 256 tokens a call it is 6 to 9% slower: Split copies what it splits.

Where query, key and value are factored apart, packing their first factors leaves three products behind a
Split. The second factors then become the blocks of one matrix, zero elsewhere, as long as these zeros take
less time than the nodes they replace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgelr.runtime.layer_names import joined
from edgelr.runtime.subgraphs import drop_unread

# Zeros that should cost less than the nodes they replace, estimated for AVX2: at int8 2 µs, three nodes 12.
_MOST_ZEROS = 2**16


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
        How many times a projection became part of another product: a factored one may twice.
    """
    graph = proto.graph
    if any(
        attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute
    ):
        return 0  # a branch may read any value
    groups: dict[str, list[_Projection]] = {}
    for each in _projections(graph):
        groups.setdefault(each.product.input[0], []).append(each)
    packs = [_side_by_side(graph, group) for group in groups.values() if len(group) > 1]
    _replace(graph, packs)
    diagonal = _behind_splits(graph)
    _replace(graph, diagonal)
    return sum(len(pack.group) for pack in (*packs, *diagonal))


@dataclass(frozen=True, kw_only=True)
class _Pack:
    """Projections that become one: the value it reads, its matrix, and what is left out besides them."""

    group: Sequence[_Projection]
    value: str
    matrix: NDArray[np.float32]
    split: onnx.NodeProto | None = None


def _side_by_side(graph: onnx.GraphProto, group: Sequence[_Projection]) -> _Pack:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    matrices = [numpy_helper.to_array(tensors[each.product.input[1]]) for each in group]
    return _Pack(group=group, value=group[0].product.input[0], matrix=np.concatenate(matrices, axis=1))


def _behind_splits(graph: onnx.GraphProto) -> list[_Pack]:
    """Projections of all parts of a product, each of one part; their first factors come to one scale."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    outputs = {value.name for value in graph.output}
    projections = {each.product.input[0]: each for each in _projections(graph)}
    found = []
    for split in (node for node in graph.node if node.op_type == "Split"):
        parts = list(split.output)
        first = products.get(split.input[0])
        if first is None or not _is_last(split) or not all(name in projections for name in parts):
            continue
        # The first matrix is scaled: whatever else reads it, or its product, would see that.
        own = (*parts, first.output[0], first.input[1])
        if first.input[1] not in tensors or any(reads[name] > 1 or name in outputs for name in own):
            continue
        group = [projections[name] for name in parts]
        blocks = [numpy_helper.to_array(tensors[each.product.input[1]]) for each in group]
        zeros = sum(map(len, blocks)) * sum(block.shape[1] for block in blocks) - sum(b.size for b in blocks)
        if zeros > _MOST_ZEROS:
            continue
        scales = _to_one_scale(tensors[first.input[1]], [len(block) for block in blocks])
        scaled = [torch.from_numpy(block / scale) for block, scale in zip(blocks, scales, strict=True)]
        matrix = torch.block_diag(*scaled).numpy()  # type: ignore[no-untyped-call]
        found.append(_Pack(group=group, value=first.output[0], matrix=matrix, split=split))
    return found


def _is_last(split: onnx.NodeProto) -> bool:
    """Whether it is the last axis that a node splits."""
    return any(attribute.name == "axis" and attribute.i == -1 for attribute in split.attribute)


def _to_one_scale(tensor: onnx.TensorProto, ranks: Sequence[int]) -> list[np.float32]:
    """Scale the columns of each part alike, in place: together they are quantized over one range."""
    matrix = numpy_helper.to_array(tensor)
    parts = np.split(matrix, np.cumsum(ranks)[:-1], axis=1)
    sizes = [np.sqrt(np.mean(np.square(part))) for part in parts]
    scales = [np.float32(max(sizes) / size if size else 1.0) for size in sizes]
    scaled = np.concatenate([part * scale for part, scale in zip(parts, scales, strict=True)], axis=1)
    tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return scales


def _replace(graph: onnx.GraphProto, packs: Sequence[_Pack]) -> None:
    """Put each pack where the first of its projections was, and leave out what nothing reads any more."""
    places: dict[str, list[onnx.NodeProto]] = {}
    for pack in packs:
        for each in pack.group:
            places |= {node.output[0]: [] for node in (each.product, each.biased) if node is not None}
        if pack.split is not None:
            places[pack.split.output[0]] = []
        # Biases are constants: everything that the first one needs is all that they need together.
        places[pack.group[0].product.output[0]] = _nodes(graph, pack)
    nodes = [new for node in graph.node for new in places.get(node.output[0], [node])]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    drop_unread(graph)


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


def _nodes(graph: onnx.GraphProto, pack: _Pack) -> list[onnx.NodeProto]:
    """The nodes that compute a pack; adds their constants to the graph."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    sizes = [tensors[each.product.input[1]].dims[1] for each in pack.group]
    biases = [
        numpy_helper.to_array(tensors[each.bias]) if each.bias else np.zeros(size, np.float32)
        for each, size in zip(pack.group, sizes, strict=True)
    ]
    first = pack.group[0].product
    value, constant = f"{first.output[0]}.packed", f"{first.input[1]}.packed"
    constants = {constant: pack.matrix, f"{constant}.sizes": np.array(sizes, np.int64)}
    name = joined([each.product.name for each in pack.group])
    nodes = [helper.make_node("MatMul", [pack.value, constant], [value], name=name)]
    if any(each.bias for each in pack.group):
        constants[f"{constant}.bias"] = np.concatenate(biases)
        biased = f"{value}.biased"
        nodes.append(helper.make_node("Add", [value, f"{constant}.bias"], [biased], name=f"{value}.add"))
        value = biased
    outputs = [each.output for each in pack.group]
    split = helper.make_node("Split", [value, f"{constant}.sizes"], outputs, name=f"{value}.split", axis=-1)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return [*nodes, split]
