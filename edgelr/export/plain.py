"""Write a graph in the operators that NPUs and phones have: no fused attention, no norm, no expansion.

For attention the inverse of ``fuse.py``, after everything between has made use of the one operator: narrower
heads stay narrow. A CPU is slower with it; QNN, CoreML and NNAPI leave the one operator to the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgelr.errors import ExportError

_OPERATOR = "MultiHeadAttention"
_BIAS = 5  # the input that is added to the scores
_KNOWN = {0, 1, 2, _BIAS}
_LOWEST = -1e4  # no score of a model is lower than this
_MASKED = np.float32(-100.0)  # exp(-100) is nothing next to any score
_MASKING = {"Add", "Expand", "Mul", "Sub", "Where"}  # what a mask is made with
_BROADCASTING = {"Add", "Sub", "Mul", "Div"}


def write_plainly(proto: onnx.ModelProto) -> int:
    """Replace in place what has no counterpart on NPUs and phones; what is computed stays the same.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many attentions were replaced.

    Raises:
        ExportError: One has inputs that are not known here, such as caches.
    """
    replaced = unfuse_attention(proto)
    _write_norms(proto.graph)
    _soften_masks(proto.graph)
    _drop_expansions(proto.graph)
    return replaced


def unfuse_attention(proto: onnx.ModelProto) -> int:
    """Replace attention in place.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many attentions were replaced.

    Raises:
        ExportError: One has inputs that are not known here, such as caches.
    """
    graph = proto.graph
    before = list(graph.node)
    nodes: list[onnx.NodeProto] = []
    for node in before:
        nodes += _plain(node, _Builder(graph, node)) if node.op_type == _OPERATOR else [node]
    _replace(graph, nodes)
    return sum(node.op_type == _OPERATOR for node in before)


def _write_norms(graph: onnx.GraphProto) -> None:
    """Root of a sum of squares, for a length over axes."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ReduceL2":
            nodes.append(node)
            continue
        make = _Builder(graph, node)
        squares = make.add("Mul", "squares", node.input[0], node.input[0])
        total = make.add("ReduceSum", "total", squares, *node.input[1:])
        make.nodes[-1].attribute.extend(node.attribute)
        nodes += [*make.nodes, helper.make_node("Sqrt", [total], [node.output[0]], name=make.name)]
    _replace(graph, nodes)


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
                tensor.CopyFrom(numpy_helper.from_array(np.full_like(value, _MASKED), tensor.name))


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
    _replace(graph, kept)


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


class _Builder:
    """Names and constants of the operators that one attention becomes."""

    def __init__(self, graph: onnx.GraphProto, attention: onnx.NodeProto) -> None:
        self.graph, self.name = graph, attention.name or attention.output[0]
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, what: str, values: Any) -> str:  # noqa: ANN401 - whatever numpy takes
        name = f"{self.name}/{what}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, what: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        name = f"{self.name}/{what}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


def _plain(node: onnx.NodeProto, make: _Builder) -> list[onnx.NodeProto]:
    """softmax(q kᵀ · scale + bias) v, for each head."""
    if odd := [name for place, name in enumerate(node.input) if name and place not in _KNOWN]:
        raise ExportError(
            f"attention {make.name} reads {', '.join(odd)}, which plain operators are not written for",
            "set export.operators: fused",
        )
    heads = _attribute(node, "num_heads")
    split = make.constant("heads", np.array([0, 0, heads, -1], np.int64))
    query, key, value = (
        make.add("Transpose", f"{what}.heads", make.add("Reshape", f"{what}.split", name, split), perm=order)
        for what, name, order in zip(
            ("query", "key", "value"),
            node.input[:3],
            ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
            strict=True,
        )
    )
    scale = _attribute(node, "scale") or (_width(make.graph, node.input[0]) / heads) ** -0.5
    scores = make.add("Mul", "scaled", query, make.constant("scale", np.float32(scale)))
    scores = make.add("MatMul", "scores", scores, key)
    if len(node.input) > _BIAS and node.input[_BIAS]:
        scores = make.add("Add", "masked", scores, node.input[_BIAS])
    mixed = make.add("MatMul", "mixed", make.add("Softmax", "weights", scores, axis=-1), value)
    mixed = make.add("Transpose", "tokens", mixed, perm=[0, 2, 1, 3])
    joined = make.constant("joined", np.array([0, 0, -1], np.int64))
    last = helper.make_node("Reshape", [mixed, joined], [node.output[0]], name=make.name)
    return [*make.nodes, last]


def _attribute(node: onnx.NodeProto, name: str) -> Any:  # noqa: ANN401 - a number
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def _width(graph: onnx.GraphProto, value: str) -> int:
    """Size of the last axis of a value that a projection makes."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    node = made_by.get(value)
    while node is not None:
        if node.op_type == "Concat":
            return sum(_width(graph, name) for name in node.input)
        weights = [constants[name] for name in node.input if name in constants]
        if node.op_type in ("MatMul", "Add") and weights and weights[0].dims:
            return int(weights[0].dims[-1])
        node = made_by.get(node.input[0])
    raise ExportError(f"no projection makes {value}, the width of its heads is not known", "report this")
