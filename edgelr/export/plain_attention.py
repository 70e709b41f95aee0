"""Attention in ONNX's own operators: the inverse of ``fuse.py``, and of ``in_place.py``.

No NPU writes into a buffer that is input and output at once, and a cache that grows by concatenation has
another shape at every step. So a step over a cache reads a buffer of one length, whatever is in it, under a
mask that says which tokens there are, and gives the keys and values of its own token only: whoever drives the
graph writes these into the buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelr.errors import ExportError
from edgelr.export.builder import Builder, attribute, replace_nodes
from edgelr.export.distances import bias_of_buffer
from edgelr.export.in_place import KEPT_ATTENTION
from edgelr.runtime.caches import PASTS, TOTAL
from edgelr.runtime.masked_caches import PAST_MASK

MASKED = np.float32(-100.0)
"""Added to a score that is masked: exp(-100) is nothing next to any score, and 16 bits keep it."""

_OPERATOR = "MultiHeadAttention"
_BIAS = 5  # the input that is added to the scores
_KNOWN = {0, 1, 2, _BIAS}
_KEPT_BIAS = 10
_KEPT_KNOWN = {*range(7), _KEPT_BIAS}  # query, key, value, past key, past value, two counters, and that
_HIDDEN = "past_hidden"

_Bias = tuple[str, str | None]
"""What is added to the scores of a buffer, and to that of the token itself."""


def unfuse_attention(proto: onnx.ModelProto) -> int:
    """Replace attention in place.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many attentions were replaced.

    Raises:
        ExportError: One has inputs that are not known here, such as a bias together with a cache.
    """
    graph = proto.graph
    kept = [node for node in graph.node if node.op_type == KEPT_ATTENTION]
    if kept and not _one_token(graph):
        raise ExportError(
            f"attention {kept[0].name} takes several tokens a call, which plain operators are not for",
            "set export.operators: fused",
        )
    nodes = _past_hidden(graph) if kept else []
    biases: dict[str, _Bias] = {"": (_HIDDEN, None)}
    for bias in sorted({_bias(node) for node in kept} - {""}):
        *added, made = bias_of_buffer(graph, bias, _HIDDEN)
        biases[bias] = (added[0], added[1])
        nodes += made
    count = 0
    for node in list(graph.node):
        count += node.op_type in (_OPERATOR, KEPT_ATTENTION)
        if node.op_type == _OPERATOR:
            nodes += _plain(node, Builder(graph, node))
        elif node.op_type == KEPT_ATTENTION:
            nodes += _over_buffer(node, Builder(graph, node), biases[_bias(node)])
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
    if kept:
        _take_mask(graph, {name for node in kept for name in node.output[1:]})
    return count


def _bias(node: onnx.NodeProto) -> str:
    """What a step adds to its scores; "" for nothing."""
    return node.input[_KEPT_BIAS] if len(node.input) > _KEPT_BIAS else ""


def _plain(node: onnx.NodeProto, make: Builder) -> list[onnx.NodeProto]:
    """softmax(q kᵀ · scale + bias) v, for each head."""
    _check_inputs(node, make, _KNOWN)
    heads = attribute(node, "num_heads")
    split = make.constant("heads", np.array([0, 0, heads, -1], np.int64))
    query = _split(make, "query", node.input[0], split, [0, 2, 1, 3])
    key, value = node.input[1:3]
    if key in {entry.name for entry in make.graph.input}:  # given to the graph, with heads apart already
        key = make.add("Transpose", "key.turned", key, perm=[0, 1, 3, 2])
    else:
        key = _split(make, "key", key, split, [0, 2, 3, 1])
        value = _split(make, "value", value, split, [0, 2, 1, 3])
    scale = attribute(node, "scale") or _Sizes(make.graph).of_head(node.input[0], heads) ** -0.5
    scores = make.add("Mul", "scaled", query, make.constant("scale", np.float32(scale)))
    scores = make.add("MatMul", "scores", scores, key)
    if len(node.input) > _BIAS and node.input[_BIAS]:
        scores = make.add("Add", "masked", scores, node.input[_BIAS])
    mixed = make.add("MatMul", "mixed", make.add("Softmax", "weights", scores, axis=-1), value)
    return _joined(node, make, mixed)


def _split(make: Builder, what: str, value: str, heads: str, order: Sequence[int]) -> str:
    """A value with its axes ``[batch, tokens, heads, size]`` in this order."""
    apart = make.add("Reshape", f"{what}.split", value, heads)
    return make.add("Transpose", f"{what}.heads", apart, perm=order)


def _over_buffer(node: onnx.NodeProto, make: Builder, bias: _Bias) -> list[onnx.NodeProto]:
    """The same of one token, ``[batch, 1, dim]``, which sees what is in a buffer and itself."""
    _check_inputs(node, make, _KEPT_KNOWN)
    past_key, past_value = node.input[3:5]
    heads, size = _heads(make.graph, past_key)
    parts = list(node.input[:3]) if node.input[1] else _apart(make, node.input[0], heads * size)
    # Of one token the heads follow each other in memory as they are.
    apart = make.constant("heads", np.array([0, heads, 1, size], np.int64))
    query = make.add("Reshape", "query.heads", parts[0], apart)
    for part, output in zip(parts[1:], node.output[1:], strict=True):
        make.give("Reshape", output, part, apart)
        make.nodes[-1].name = output
    scale = np.float32(attribute(node, "scale") or size**-0.5)
    query = make.add("Mul", "scaled", query, make.constant("scale", scale))
    before, own = (
        make.add("Transpose", f"{what}.turned", key, perm=[0, 1, 3, 2])
        for what, key in (("past", past_key), ("own", node.output[1]))
    )
    before = make.add("Add", "masked", make.add("MatMul", "past.scores", query, before), bias[0])
    own = make.add("MatMul", "own.scores", query, own)
    if bias[1] is not None:
        own = make.add("Add", "own.biased", own, bias[1])
    weights = make.add("Softmax", "weights", make.add("Concat", "scores", before, own, axis=-1), axis=-1)
    values = make.add("Concat", "values", past_value, node.output[2], axis=2)
    return _joined(node, make, make.add("MatMul", "mixed", weights, values))


def _apart(make: Builder, packed: str, width: int) -> list[str]:
    """Query, key and value of what is one product."""
    parts = [f"{make.name}/{what}" for what in ("query", "key", "value")]
    sizes = make.constant("sizes", np.full(3, width))
    make.nodes.append(helper.make_node("Split", [packed, sizes], parts, name=f"{make.name}/split", axis=-1))
    return parts


def _joined(node: onnx.NodeProto, make: Builder, mixed: str) -> list[onnx.NodeProto]:
    """Heads side by side again, under the name that the attention gave."""
    turned = make.add("Transpose", "tokens", mixed, perm=[0, 2, 1, 3])
    joined = make.constant("joined", np.array([0, 0, -1], np.int64))
    last = helper.make_node("Reshape", [turned, joined], [node.output[0]], name=make.name)
    return [*make.nodes, last]


def _past_hidden(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What is added to the scores of a buffer, ``[batch, 1, 1, past]``: 0 where a token is."""
    make = Builder(graph, onnx.NodeProto(name=_HIDDEN))
    there = make.add("Cast", "there", PAST_MASK, to=TensorProto.FLOAT)
    hidden = make.add("Sub", "hidden", make.constant("one", np.float32(1)), there)
    low = make.add("Mul", "low", hidden, make.constant("masked", MASKED))
    make.give("Unsqueeze", _HIDDEN, low, make.constant("axes", np.array([1, 2])))
    return make.nodes


def _take_mask(graph: onnx.GraphProto, present: set[str]) -> None:
    """Read a mask in place of counters, and say that what is present is of one token."""
    for place in reversed(range(len(graph.input))):
        if graph.input[place].name in (PASTS, TOTAL):
            del graph.input[place]
    graph.input.append(helper.make_tensor_value_info(PAST_MASK, TensorProto.INT64, ["batch", "past"]))
    for value in graph.output:
        if value.name in present:
            axis = value.type.tensor_type.shape.dim[2]
            axis.Clear()
            axis.dim_value = 1


def _one_token(graph: onnx.GraphProto) -> bool:
    tokens = [value for value in graph.input if value.name == "input_ids"]
    return all(value.type.tensor_type.shape.dim[1].dim_value == 1 for value in tokens)


def _check_inputs(node: onnx.NodeProto, make: Builder, known: Any) -> None:  # noqa: ANN401 - a set or a range
    if odd := [name for place, name in enumerate(node.input) if name and place not in known]:
        raise ExportError(
            f"attention {make.name} reads {', '.join(odd)}, which plain operators are not written for",
            "set export.operators: fused",
        )


def _heads(graph: onnx.GraphProto, cache: str) -> tuple[int, int]:
    """How many heads a buffer has, and the size of one."""
    (value,) = (each for each in graph.input if each.name == cache)
    sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    return sizes[1], sizes[3]


class _Sizes:
    """Sizes of last axes, as far as the constants of a graph tell."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._made_by = {output: node for node in graph.node for output in node.output}

    def of_head(self, query: str, heads: int) -> int:
        """Size of a head of a query ``[batch, tokens, dim]``.

        Raises:
            ExportError: Neither a projection nor heads that were split before say it.
        """
        join = self._made_by.get(query)
        turn = None if join is None or join.op_type != "Reshape" else self._made_by.get(join.input[0])
        if turn is not None and turn.op_type == "Transpose":
            found = self._last(turn.input[0])
        else:
            whole = self._last(query)
            found = None if whole is None else whole // heads
        if found is None:
            raise ExportError(f"no projection makes {query}, the size of its heads is unknown", "report this")
        return found

    def _last(self, value: str) -> int | None:  # noqa: PLR0911 - one a kind of node
        """Of a value; None where it is not known."""
        if value in self._constants:
            shape = self._constants[value].shape
            return shape[-1] if shape and shape[-1] > 1 else None
        node = self._made_by.get(value)
        if node is None:
            return None
        match node.op_type:
            case "MatMul" | "Add" | "Sub" | "Mul" | "Div":  # what is broadcast is of 1, or a constant of none
                return next((size for name in reversed(node.input) if (size := self._last(name))), None)
            case "Concat" if attribute(node, "axis") == -1:
                sizes = [self._last(name) for name in node.input]
                return None if None in sizes else sum(size for size in sizes if size)
            case "Slice":
                return self._sliced(node)
            case "Reshape":
                return self._reshaped(node.input[1])
            case _:
                return None

    def _sliced(self, node: onnx.NodeProto) -> int | None:
        """Of one step along the last of four axes."""
        start, end, axis, step = (self._constants.get(name) for name in node.input[1:5])
        whole = self._last(self._before(node.input[0]))
        if whole is None or start is None or end is None or axis is None or step is None or axis != [3]:
            return None
        return len(range(whole)[int(start[0]) : int(end[0]) : int(step[0])])

    def _before(self, value: str) -> str:
        """What a value was before its axes changed places, all but the last."""
        node = self._made_by.get(value)
        turned = node is not None and node.op_type == "Transpose" and list(attribute(node, "perm"))[-1] == 3
        return node.input[0] if node is not None and turned else value

    def _reshaped(self, shape: str) -> int | None:
        """What a shape says of its last axis."""
        node = self._made_by.get(shape)
        last = self._constants.get(shape if node is None else node.input[-1])
        return int(last[-1]) if last is not None and last.ndim and last[-1] > 0 else None
