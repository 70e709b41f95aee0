"""How many multiply-accumulates a node takes: what a share of the work is a share of."""

from __future__ import annotations

import math

from edgelr.placement.seen import Node, Value

_OWN = "com.microsoft:"
_PRODUCTS = {
    "MatMul",
    "MatMulInteger",
    "QLinearMatMul",
    f"{_OWN}FusedMatMul",
    f"{_OWN}MatMulIntegerToFloat",
    f"{_OWN}DynamicQuantizeMatMul",
    f"{_OWN}MatMulNBits",
}
_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", f"{_OWN}FusedConv"}
_ATTENTIONS = {"Attention", f"{_OWN}MultiHeadAttention", f"{_OWN}GroupQueryAttention"}
_WEIGHT_OF = {"QLinearMatMul": 3, "QLinearConv": 3}


def macs_of(node: Node) -> int:
    """Multiply-accumulates of one run of a node; an axis whose size is open counts as one.

    Args:
        node: Any; what does not multiply matrices takes none.
    """
    if node.operator in _PRODUCTS:
        return _elements(node.outputs[0]) * _inner(node)
    if node.operator in ("Gemm", f"{_OWN}QGemm"):
        return _elements(node.outputs[0]) * _size(node.inputs[0], 0 if node.attributes.get("transA") else -1)
    if node.operator in _CONVOLUTIONS:
        return _convolution(node)
    if node.operator in _ATTENTIONS:
        return _attention(node)
    return 0


def _inner(node: Node) -> int:
    """The length of the sums of a product."""
    if node.attributes.get("transA"):
        return _size(node.inputs[0], -2)
    return _size(node.inputs[0], -1)


def _convolution(node: Node) -> int:
    """Each output sums over its group's channels and the kernel: a filter without its first axis."""
    place = _WEIGHT_OF.get(node.operator, 1)
    weight = node.inputs[place]
    if weight is None or weight.shape is None:
        return 0
    filters = math.prod(size or 1 for size in weight.shape[1:])
    if node.operator == "ConvTranspose":
        return _elements(node.inputs[0]) * filters
    return _elements(node.outputs[0]) * filters


def _attention(node: Node) -> int:
    """Queries with keys, and weights with values; the projections are nodes of their own."""
    query, key, value = (*node.inputs, None, None)[:3]
    if query is None or key is None or value is None:
        return 0
    # Keys come as [batch, tokens, size], or [batch, heads, tokens, size] where a cache holds them.
    looked_at = _size(key, -2)
    widths = _size(query, -1) + (_size(value, -1) if len(value.shape or ()) == 3 else _size(query, -1))
    return _size(query, 0) * _size(query, 1) * looked_at * widths


def _elements(value: Value | None) -> int:
    return 0 if value is None or value.shape is None else math.prod(size or 1 for size in value.shape)


def _size(value: Value | None, axis: int) -> int:
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return 1
    return value.shape[axis] or 1
