"""Attention biased by how far a key is from its query, as T5's: a table of distances, looked up.

Traced, such a bias is twenty nodes that compute with positions and their logarithms, of which 16 bits would
make others. It depends on the distance only, and far away not even on that: it is computed here once for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgelr.errors import ExportError
from edgelr.export.builder import Builder, replace_nodes
from edgelr.runtime.caches import PAST
from edgelr.runtime.graph import run_errors
from edgelr.runtime.masked_caches import PAST_MASK

Table = NDArray[np.float32]

_FAR = 1024  # tokens: from half of them on, every distance is the same
_NEAR = 5  # a second length to hold the table against
_INT64 = TensorProto.INT64


def bias_of_buffer(graph: onnx.GraphProto, bias: str, hidden: str) -> tuple[str, str, list[onnx.NodeProto]]:
    """Replace what a decoder's step adds to its scores, ``[1, heads, 1, past + 1]``.

    Args:
        graph: The decoder; the constants are added to it.
        bias: Made of the position alone.
        hidden: What is added for the mask, ``[batch, 1, 1, past]``.

    Returns:
        What to add to the scores of the buffer, ``[batch, heads, 1, past]``, the mask's too; what to add to
        that of the token itself, ``[1, heads, 1, 1]``; and the nodes that make it.

    Raises:
        ExportError: It is made of anything else, or depends on more than the distance.
    """
    made = _made_of_positions(graph, bias)
    if made is None or made != {PAST}:
        raise _odd(bias)
    far, near = (_evaluated(graph, bias, {PAST: np.array([past])}) for past in (_FAR, _NEAR))
    behind = far[0, :, 0, ::-1].T  # by distance, the token itself first
    if not np.array_equal(near[0, :, 0, ::-1].T, behind[: _NEAR + 1]):
        raise _odd(bias)
    table = behind[: _last_change(behind, bias) + 1]
    make = Builder(graph, onnx.NodeProto(name=f"{bias}/behind"))
    away = make.add("Sub", "away", PAST, _places(make, PAST_MASK))
    # Behind the tokens in the buffer there is nothing, which the mask says.
    there = make.add("Max", "there", away, make.constant("least", np.array([0])))
    capped = make.add("Min", "capped", there, make.constant("last", np.array([len(table) - 1])))
    rows = make.add("Gather", "rows", make.constant("table", table), capped)
    turned = make.add("Transpose", "turned", rows, perm=[1, 0])
    apart = make.add("Unsqueeze", "apart", turned, make.constant("axes", np.array([0, 2])))
    added = make.add("Add", "hidden", apart, hidden)
    own = make.constant("own", table[0].reshape(1, -1, 1, 1))
    return added, own, make.nodes


def tabulate_distances(graph: onnx.GraphProto) -> int:
    """Look biases between all tokens of a text up, ``[1, heads, tokens, tokens]``, in place.

    Args:
        graph: An encoder of texts.

    Returns:
        How many biases were replaced.

    Raises:
        ExportError: One goes on to change however far the tokens are apart.
    """
    count = 0
    for bias in _candidates(graph):
        made = _made_of_positions(graph, bias)
        source = None if made is None else _only_text(graph, made)
        if source is None:
            continue
        try:
            far = _evaluated(graph, bias, {source: np.zeros((1, _FAR), np.int64)})
        except run_errors():  # of positions that end before
            continue
        if far.ndim != 4 or far.shape[2:] != (_FAR, _FAR) or far.dtype != np.float32:
            continue
        between = np.concatenate((far[0, :, -1, :-1], far[0, :, 0, :]), axis=1).T  # from -(far - 1) on
        places = np.arange(_FAR)[None, :] - np.arange(_FAR)[:, None] + _FAR - 1
        if np.array_equal(far[0], between[places].transpose(2, 0, 1)):
            _look_up(graph, bias, source, between)
            count += 1
    return count


def _look_up(graph: onnx.GraphProto, bias: str, source: str, between: Table) -> None:
    """Make a bias of a table by distance, whose middle is 0."""
    before, after = between[_FAR - 1 :: -1], between[_FAR - 1 :]
    left, right = (_last_change(side, bias) for side in (before, after))
    make = Builder(graph, onnx.NodeProto(name=f"{bias}/between"))
    places = _places(make, source)
    row = make.add("Unsqueeze", "row", places, make.constant("first", np.array([0])))
    column = make.add("Unsqueeze", "column", places, make.constant("second", np.array([1])))
    least, most = make.constant("least", np.int64(-left)), make.constant("most", np.int64(right))
    capped = make.add("Clip", "capped", make.add("Sub", "apart", row, column), least, most)
    index = make.add("Add", "index", capped, make.constant("left", np.int64(left)))
    table = make.constant("table", between[_FAR - 1 - left : _FAR + right])
    heads = make.add("Transpose", "heads", make.add("Gather", "rows", table, index), perm=[2, 0, 1])
    make.give("Unsqueeze", bias, heads, "")
    make.nodes[-1].input[1] = make.constant("batch", np.array([0]))
    place = next(number for number, node in enumerate(graph.node) if bias in node.output)
    nodes = list(graph.node)
    replace_nodes(graph, [*nodes[:place], *make.nodes, *nodes[place + 1 :]])


def _places(make: Builder, source: str) -> str:
    """0, 1, 2 and so on, one for each token of ``[batch, tokens]``; a constant where the size is fixed."""
    zero, one = make.constant("zero", np.int64(0)), make.constant("one", np.int64(1))
    size = make.add("Squeeze", "size", make.add("Shape", "shape", source, start=1, end=2))
    return make.add("Range", "places", zero, size, one)


def _last_change(table: Table, bias: str) -> int:
    """The distance from which on the bias is the same."""
    changes = np.flatnonzero((table[1:] != table[:-1]).any(axis=1))
    last = int(changes[-1]) + 1 if len(changes) else 0
    if last >= _FAR // 2:
        raise ExportError(
            f"the bias {bias} changes with every distance, up to {last} tokens", "set export.operators: fused"
        )
    return last


def _candidates(graph: onnx.GraphProto) -> list[str]:
    """Values that may be a bias: made of a looked up table, and added to something."""
    added = {name for node in graph.node if node.op_type == "Add" for name in node.input}
    return [node.output[0] for node in graph.node if node.op_type == "Unsqueeze" and node.output[0] in added]


def _made_of_positions(graph: onnx.GraphProto, value: str) -> set[str] | None:
    """Inputs of the graph that a value is made of; None where it is made of more than their shapes."""
    given = {entry.name for entry in graph.input}
    found = set()
    for node in _ancestors(graph, value):
        for name in given & set(node.input):
            if node.op_type != "Shape" and name != PAST:
                return None
            found.add(name)
    return found


def _only_text(graph: onnx.GraphProto, inputs: set[str]) -> str | None:
    """The one input that these are, if it is ``[batch, tokens]``."""
    texts = [
        entry.name
        for entry in graph.input
        if entry.name in inputs
        and entry.type.tensor_type.elem_type == _INT64
        and len(entry.type.tensor_type.shape.dim) == 2
    ]
    return texts[0] if len(inputs) == len(texts) == 1 else None


def _ancestors(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """The nodes that make a value, in their order."""
    wanted, found = {value}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]


def _evaluated(graph: onnx.GraphProto, value: str, feeds: dict[str, NDArray[np.int64]]) -> NDArray[Any]:
    """A value for these inputs, by ONNX Runtime, whose rounding a package has as well."""
    nodes = _ancestors(graph, value)
    read = {name for node in nodes for name in node.input}
    inputs = [helper.make_tensor_value_info(name, _INT64, array.shape) for name, array in feeds.items()]
    output = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    part = helper.make_graph(nodes, "bias", inputs, [output], constants)
    model = helper.make_model(part, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (array,) = session.run(None, feeds)
    return np.asarray(array)


def _odd(bias: str) -> ExportError:
    return ExportError(
        f"the bias {bias} of a decoder's attention depends on more than the distance to a token",
        "set export.operators: fused",
    )
