"""Write a graph in the operators that NPUs and phones have: no fused attention, no norm, no expansion.

For attention the inverse of ``fuse.py``, after everything between has made use of the one operator: narrower
heads stay narrow. A CPU is slower with it; QNN, CoreML and NNAPI leave the one operator to the CPU.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgelr.export.builder import Builder, drop_idle, replace_nodes
from edgelr.export.distances import tabulate_distances
from edgelr.export.plain_attention import MASKED, unfuse_attention

_LOWEST = -1e4  # no score of a model is lower than this
_MASKING = {"Add", "Expand", "Mul", "Sub", "Where"}  # what a mask is made with
_BROADCASTING = {"Add", "Sub", "Mul", "Div"}


def write_plainly(proto: onnx.ModelProto) -> int:
    """Replace in place what has no counterpart on NPUs and phones; what is computed stays the same.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many attentions were replaced.

    Raises:
        ExportError: One has inputs that are not known here, such as a bias together with a cache.
    """
    tabulate_distances(proto.graph)
    replaced = unfuse_attention(proto)
    _write_norms(proto.graph)
    _soften_masks(proto.graph)
    _drop_expansions(proto.graph)
    drop_idle(proto.graph)
    return replaced


def _write_norms(graph: onnx.GraphProto) -> None:
    """Root of a sum of squares, for a length over axes."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ReduceL2":
            nodes.append(node)
            continue
        make = Builder(graph, node)
        squares = make.add("Mul", "squares", node.input[0], node.input[0])
        total = make.add("ReduceSum", "total", squares, *node.input[1:])
        make.nodes[-1].attribute.extend(node.attribute)
        nodes += [*make.nodes, helper.make_node("Sqrt", [total], [node.output[0]], name=make.name)]
    replace_nodes(graph, nodes)


def _soften_masks(graph: onnx.GraphProto) -> None:
    """Mask with what is low enough: of a range down to -3e38, 16 bits leave nothing for the scores.

    A constant that only bounds numbers, such as in ``Clip`` or ``Max``, stays.
    """
    reading: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            reading.setdefault(name, set()).add(node.op_type)
    for tensor in graph.initializer:
        masks = reading.get(tensor.name, set()) <= _MASKING
        if masks and tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims in ([], [1]):
            value = numpy_helper.to_array(tensor)
            if value.min() < _LOWEST:
                tensor.CopyFrom(numpy_helper.from_array(np.full_like(value, MASKED), tensor.name))


def _drop_expansions(graph: onnx.GraphProto) -> None:
    """Leave it to what reads an expanded value to expand it, as arithmetic does by itself."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    given = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        reading = readers.get(node.output[0], [])
        alone = all(each.op_type in _BROADCASTING and each.input[0] != each.input[1] for each in reading)
        if node.op_type != "Expand" or node.output[0] in given or not alone:
            kept.append(node)
            continue
        for each in reading:
            place = list(each.input).index(node.output[0])
            each.input[place] = node.input[0]
    replace_nodes(graph, kept)
