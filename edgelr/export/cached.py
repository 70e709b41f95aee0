"""Attention of a decoder that is given one token at a time, as one node that keeps the cache.

Traced, a step's self-attention is sixteen nodes, each of which takes longer to start than to compute; ONNX
Runtime's MultiHeadAttention is one, and appends to the cache itself. Its cross-attention takes keys and
values as they are kept, where a fused graph would turn them again for every token.
"""

from __future__ import annotations

from typing import Any

Node = Any  # of onnx_ir, which is imported late
Value = Any


def fuse_cached_attention(model: Any) -> int:  # noqa: ANN401 - onnx_ir.Model
    """Join self-attention over a cache, in place.

    Args:
        model: An ``onnx_ir.Model`` with plain attention, where present keys and values are outputs.

    Returns:
        How many attentions were joined; 0 leaves a graph that is right, only slower.
    """
    inputs = set(model.graph.inputs)
    appended = [
        node for node in model.graph if node.op_type == "Concat" and node.inputs and node.inputs[0] in inputs
    ]
    return sum(_join(model, node) for node in appended)


def feed_cached_keys(model: Any) -> int:  # noqa: ANN401 - onnx_ir.Model
    """Give MultiHeadAttention keys and values ``[batch, heads, tokens, size]`` as the graph's inputs are.

    Args:
        model: An ``onnx_ir.Model`` whose cross-attention is fused.

    Returns:
        How many attentions were changed.
    """
    inputs = set(model.graph.inputs)
    count = 0
    for node in model.graph:
        if node.op_type != "MultiHeadAttention":
            continue
        kept = [_unturned(value) for value in node.inputs[1:3]]
        if all(value is not None and value in inputs for value in kept):
            for place, value in enumerate(kept, start=1):
                node.replace_input_with(place, value)
            count += 1
    return count


def _join(model: Any, keys: Node) -> bool:  # noqa: ANN401
    """Join the attention whose keys a node appends to; False where it computes anything else."""
    import onnx_ir

    found = _attention(keys)
    if found is None:
        return False
    turned, scores, scaled, biased, context, out = found
    values, made = context.inputs[1].producer(), list[Node]()
    split = (scores.inputs[0], keys.inputs[1], values.inputs[1])
    flat = [_unsplit(value) or _joined(value, made) for value in split]
    scale = 1.0 if scaled is None else _scale(scaled, scores)
    heads = keys.inputs[0].shape[1] if keys.inputs[0].shape else None
    if None in flat or scale is None or not isinstance(heads, int) or _perm(turned) != [0, 1, 3, 2]:
        return False
    bias = None if biased is None else _other(biased, scaled or scores)
    if bias is not None and biased is not None and not _is_bias(bias, biased.outputs[0]):
        return False
    arguments = [*flat, None, None, bias, keys.inputs[0], values.inputs[0]]
    node = onnx_ir.node(
        "MultiHeadAttention",
        arguments,
        {"num_heads": heads, "scale": scale},
        domain="com.microsoft",
        num_outputs=3,
    )
    model.graph.insert_after(out, [*made, node])
    model.graph.opset_imports.setdefault("com.microsoft", 1)
    for old, new in zip((out.outputs[0], keys.outputs[0], values.outputs[0]), node.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        new.name, old.name = old.name, f"{old.name}_apart"
        onnx_ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    return True


def _attention(keys: Node) -> tuple[Node, ...] | None:
    """The nodes from keys to what is no longer split into heads; of scale and bias, None where there is none.

    None where they are no attention, or where something in between is read by anyone else: the joined node
    comes last, too late for that.
    """
    turned = _only_reader(keys.outputs[0], "Transpose", output=True)
    scores = _only_reader(turned, "MatMul")
    scaled = _only_reader(scores, "Mul", "Div")
    biased = _only_reader(scaled or scores, "Add")
    weights = _only_reader(biased or scaled or scores, "Softmax")
    context = _only_reader(weights, "MatMul")
    back = _only_reader(context, "Transpose")
    out = _only_reader(back, "Reshape")
    values = None if context is None else context.inputs[1].producer()
    if out is None or values is None or values.op_type != "Concat":
        return None
    plain = (
        _only_reader(values.outputs[0], "MatMul", output=True) is context
        and all(_axis(node) in {-2, 2} and len(node.inputs) == 2 for node in (keys, values))
        and _axis(weights) in {-1, 3}
        and _perm(back) == [0, 2, 1, 3]
        and _rank(out.outputs[0]) == 3
    )
    return (turned, scores, scaled, biased, context, out) if plain else None


def _only_reader(value: Any, *kinds: str, output: bool = False) -> Node | None:  # noqa: ANN401
    """The one node of such a kind that reads a value, or a node's first output; None if others do too.

    Args:
        value: A value, a node, or None.
        kinds: Operators.
        output: Whether the value may also be an output of the graph.
    """
    if value is None:
        return None
    read = value.outputs[0] if hasattr(value, "outputs") else value
    readers = {id(use.node): use.node for use in read.uses()}
    if len(readers) != 1 or (read.is_graph_output() and not output):
        return None
    (node,) = readers.values()
    return node if node.op_type in kinds else None


def _other(node: Node, one: Node) -> Value | None:
    """What a node of two inputs reads besides the output of another one."""
    return next((value for value in node.inputs if value.producer() is not one), None)


def _is_bias(bias: Value, scores: Value) -> bool:
    """Whether the operator takes a bias: ``[1 or batch, 1 or heads, tokens, past + 1]``."""
    return _rank(bias) == 4 and list(bias.shape)[2:] == list(scores.shape or ())[2:]


def _scale(scaled: Node, scores: Node) -> float | None:
    """What scores are multiplied by; None where it is no constant number."""
    import onnx_ir

    other = _other(scaled, scores)
    if scaled.op_type == "Div" and scaled.inputs[1] is not other:
        return None
    tensor = None if other is None else onnx_ir.convenience.get_const_tensor(other)
    if tensor is None or tensor.size != 1:
        return None
    number = float(tensor.numpy().reshape(-1)[0])
    return 1.0 / number if scaled.op_type == "Div" else number


def _unsplit(value: Value) -> Value | None:
    """``[batch, tokens, dim]`` of what was split into heads ``[batch, heads, tokens, size]``."""
    turn = value.producer()
    if turn is None or turn.op_type != "Transpose" or _perm(turn) != [0, 2, 1, 3]:
        return None
    split = turn.inputs[0].producer()
    whole = split.inputs[0] if split is not None and split.op_type == "Reshape" else None
    return whole if _rank(whole) == 3 else None


def _joined(value: Value, made: list[Node]) -> Value | None:
    """``[batch, 1, dim]`` of what is ``[batch, heads, 1, size]``, such as keys with a position in them.

    Args:
        value: Of one token: its heads follow each other in memory as they are.
        made: Where the nodes go.
    """
    import onnx_ir

    sizes = list(value.shape or ())
    if len(sizes) != 4 or sizes[2] != 1 or not all(isinstance(sizes[axis], int) for axis in (1, 3)):
        return None
    shape = onnx_ir.tensor([0, 1, sizes[1] * sizes[3]], dtype=onnx_ir.DataType.INT64)
    target = onnx_ir.node("Constant", [], {"value": shape})
    join = onnx_ir.node("Reshape", [value, target.outputs[0]])
    join.outputs[0].dtype, join.outputs[0].shape = (
        value.dtype,
        onnx_ir.Shape([sizes[0], *shape.numpy()[1:].tolist()]),
    )
    made += [target, join]
    return join.outputs[0]


def _unturned(value: Value) -> Value | None:
    """``[batch, heads, tokens, size]`` of what was joined into ``[batch, tokens, dim]``."""
    join = None if value is None else value.producer()
    turn = join.inputs[0].producer() if join is not None and join.op_type == "Reshape" else None
    if turn is None or turn.op_type != "Transpose" or _perm(turn) != [0, 2, 1, 3]:
        return None
    return turn.inputs[0]


def _perm(node: Node) -> list[int]:
    return list(node.attributes["perm"].as_ints())


def _axis(node: Node) -> int:
    """Of Concat and Softmax; the latter's default is the last one."""
    return int(node.attributes["axis"].as_int()) if "axis" in node.attributes else -1


def _rank(value: Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)
