"""Store a table once that is looked up and multiplied by: an embedding whose table is its head's matrix too.

A graph looks rows up in ``[tokens, dim]`` and multiplies by ``[dim, tokens]``. Folded into constants that is
the same matrix twice, and of a language model it is the largest one. Here the rows come from the transpose of
the matrix, which a runtime makes once when it loads the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def share_tables(proto: onnx.ModelProto) -> int:
    """Look up in the transpose of an equal matrix, in place of each table that has one.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many tables are no longer stored.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    matrices = dict.fromkeys(
        node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants
    )
    shared = 0
    for table in _tables(graph):
        equal = [name for name in matrices if table in constants and _transposed(constants, table, name)]
        if equal:
            _look_up_in(graph, table, equal[0])
            shared += 1
    return shared


def _tables(graph: onnx.GraphProto) -> list[str]:
    """Constants that are only looked up, by rows."""
    tables = dict.fromkeys(node.input[0] for node in graph.node if _looks_up(node))
    others = {
        name
        for node in graph.node
        for place, name in enumerate(node.input)
        if not (place == 0 and _looks_up(node))
    }
    return [name for name in tables if name not in others]


def _looks_up(node: onnx.NodeProto) -> bool:
    return bool(
        node.op_type == "Gather" and all(each.i == 0 for each in node.attribute if each.name == "axis")
    )


def _transposed(constants: dict[str, onnx.TensorProto], table: str, matrix: str) -> bool:
    ours, theirs = constants[table], constants[matrix]
    if list(ours.dims) != list(theirs.dims)[::-1] or ours.data_type != theirs.data_type:
        return False
    return np.array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs).T)


def _look_up_in(graph: onnx.GraphProto, table: str, matrix: str) -> None:
    rows = f"{table}.rows"
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] == table:
            node.input[0] = rows
    graph.node.insert(
        0, helper.make_node("Transpose", [matrix], [rows], name=f"{rows}.transpose", perm=[1, 0])
    )
    kept = [tensor for tensor in graph.initializer if tensor.name != table]
    del graph.initializer[:]
    graph.initializer.extend(kept)
