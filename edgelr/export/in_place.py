"""Caches that grow where they are, instead of being written anew for every token.

ONNX Runtime's MultiHeadAttention appends to a cache by copying it: of every layer, keys and values of all
tokens so far. Its GroupQueryAttention takes a buffer with room for more and writes one token's into it, when
the same buffer is bound as input and as output. A shape then no longer says how many tokens there are: the
graph is told.

A buffer that is exactly full works as well: the output is then one token longer, as before.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelr.runtime.caches import PAST, PASTS, TOTAL
from edgelr.runtime.subgraphs import drop_unread

KEPT_ATTENTION = "GroupQueryAttention"
"""The operator of an attention that writes into its cache."""

_MICROSOFT = "com.microsoft"
HEAD_MULTIPLE = 8
"""The size of a head is a multiple of it where ONNX Runtime runs the operator."""
_Q, _K, _V, _BIAS, _PAST_KEY, _PAST_VALUE = 0, 1, 2, 5, 6, 7  # of MultiHeadAttention
_NOT_TAKEN = (
    3,
    4,
)  # biases of the projections and a mask of padding, which have no place in the other operator


def keep_caches_in_place(proto: onnx.ModelProto, head_multiple: int = HEAD_MULTIPLE) -> int:
    """Let every attention over a cache write into it, in place.

    Args:
        proto: A decoder whose attentions are fused, with the shapes of its inputs and outputs.
        head_multiple: What the size of a head has to be a multiple of, for what runs the operator.

    Returns:
        How many attentions there are; 0, and nothing is changed, where a cache is also kept in another way.
    """
    graph = proto.graph
    written = [node for node in graph.node if node.op_type == KEPT_ATTENTION]
    if written:  # exported like that
        _take_unsplit(graph, written)
        return len(written)
    caching = [node for node in graph.node if _keeps_cache(node)]
    kept = {name for node in caching for name in node.input[_PAST_KEY : _PAST_VALUE + 1]}
    sized = [node for node in graph.node if node.op_type == "Shape" and node.input[0] in kept]
    others = {name for node in graph.node if node not in caching + sized for name in node.input}
    inputs = {value.name for value in graph.input}
    # A present that is read inside would have room for tokens that are not there.
    present = {name for node in caching for name in node.output[1:]}
    alone = not (kept | present) & others and present <= {value.name for value in graph.output}
    fit = kept <= inputs and alone and _whole_sizes(graph, kept, head_multiple)
    if not (caching and fit and all(map(_is_length, sized))):
        return 0
    for node in caching:
        _write_into(node)
    for node in sized:
        _replace(graph, node.output[0], PAST)
        graph.node.remove(node)
    _take_position(graph)
    _take_unsplit(graph, caching)
    drop_unread(graph)
    graph.input.extend(
        (
            helper.make_tensor_value_info(PAST, TensorProto.INT64, [1]),
            helper.make_tensor_value_info(PASTS, TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info(TOTAL, TensorProto.INT32, [1]),
        )
    )
    return len(caching)


def _keeps_cache(node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "MultiHeadAttention"
        and len(node.input) > _PAST_VALUE
        and bool(node.input[_PAST_KEY] and node.input[_PAST_VALUE])
        and not any(node.input[place] for place in _NOT_TAKEN)
    )


def _whole_sizes(graph: onnx.GraphProto, kept: set[str], multiple: int) -> bool:
    """Whether the operator takes the heads: keys and values of one size, a multiple of that."""
    sizes = {value.type.tensor_type.shape.dim[3].dim_value for value in graph.input if value.name in kept}
    return len(sizes) == 1 and sizes.pop() % multiple == 0


def _is_length(node: onnx.NodeProto) -> bool:
    """Whether a Shape gives nothing but the axis of the tokens."""
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return (bounds.get("start"), bounds.get("end")) == (2, 3)


def _write_into(node: onnx.NodeProto) -> None:
    arguments = list(node.input) + [""] * (_PAST_VALUE + 1 - len(node.input))
    heads: Any = next(attribute for attribute in node.attribute if attribute.name == "num_heads")
    bias = arguments[_BIAS]
    node.op_type = KEPT_ATTENTION
    del node.input[:]
    node.input.extend([*arguments[_Q : _V + 1], arguments[_PAST_KEY], arguments[_PAST_VALUE], PASTS, TOTAL])
    if bias:
        node.input.extend(["", "", "", bias])  # no rotation, no positions
    node.attribute.append(helper.make_attribute("kv_num_heads", heads.i))


def _take_unsplit(graph: onnx.GraphProto, caching: list[onnx.NodeProto]) -> None:
    """Hand queries, keys and values over as the one product that they were split from."""
    splits = {tuple(node.output): node for node in graph.node if node.op_type == "Split"}
    for node in caching:
        split = splits.get(tuple(node.input[: _V + 1]))
        read = [name for each in graph.node for name in each.input]
        if split is not None and all(read.count(name) == 1 for name in split.output):
            node.input[_Q], node.input[_K], node.input[_V] = split.input[0], "", ""
            graph.node.remove(split)


def _take_position(graph: onnx.GraphProto) -> None:
    """Of a single token, the position ``0 + past`` is the past itself."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    scalars = [node for node in graph.node if node.op_type == "Squeeze" and node.input[0] == PAST]
    for scalar in scalars:
        for node in [node for node in graph.node if node.op_type == "Add" and scalar.output[0] in node.input]:
            other = next((name for name in node.input if name != scalar.output[0]), "")
            if other in constants and _is_first(constants[other]):
                _replace(graph, node.output[0], PAST)
                graph.node.remove(node)
        if not any(scalar.output[0] in node.input for node in graph.node):
            graph.node.remove(scalar)


def _is_first(tensor: onnx.TensorProto) -> bool:
    """Whether it is the positions of one token, from 0."""
    return list(tensor.dims) == [1] and not numpy_helper.to_array(tensor).any()


def _replace(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
