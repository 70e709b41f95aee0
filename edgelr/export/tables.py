"""Store nothing twice: a table that is multiplied by too, and rows of a table that are equal.

A graph looks rows up in ``[tokens, dim]`` and multiplies by ``[dim, tokens]``. Folded into constants that is
the same matrix twice, and of a language model it is the largest one. Here the rows come from the transpose of
the matrix, which a runtime makes once when it loads the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def turn_heads(proto: onnx.ModelProto) -> int:
    """Store a matrix as it is multiplied by, where a graph turns a table first.

    Constants are folded, but not one that is read in two ways and is large: a head that is tied to an
    embedding. Behind a Transpose no quantizer would find it. ``share_tables`` then stores it once again.

    Args:
        proto: A graph with its weights as initializers.

    Returns:
        How many matrices were turned.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    multiplied = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    turning = [
        node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in constants and node.output[0] in multiplied
    ]
    for node in turning:
        matrix = np.ascontiguousarray(numpy_helper.to_array(constants[node.input[0]]).T)
        graph.initializer.append(numpy_helper.from_array(matrix, node.output[0]))
        graph.node.remove(node)
    return len(turning)


def flatten_biases(proto: onnx.ModelProto) -> int:
    """Store a bias of the logits as ``[tokens]`` where it is ``[1, tokens]``.

    A runtime adds only a flat one in the product itself, and not in a pass of its own over all logits.

    Args:
        proto: A graph with its weights as initializers, whose outputs have their shapes.

    Returns:
        How many biases were changed.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    # Sums that have more axes than the bias: these do not come from it.
    deep = {value.name for value in graph.output if len(value.type.tensor_type.shape.dim) > 2}
    changed = 0
    for node in graph.node:
        bias = constants.get(next((name for name in node.input if name in constants), ""))
        read = [name for each in graph.node for name in each.input]
        fits = node.op_type == "Add" and node.output[0] in deep and bool(products & set(node.input))
        if fits and bias is not None and list(bias.dims)[:-1] == [1] and read.count(bias.name) == 1:
            del bias.dims[0]
            changed += 1
    return changed


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


def store_rows_once(proto: onnx.ModelProto) -> int:
    """Look up in the rows that differ, through their numbers, where a quarter or more of a table is repeated.

    Args:
        proto: A graph with its weights as initializers; tables that are only looked up are changed.

    Returns:
        How many numbers the graph stores less.
    """
    graph, saved = proto.graph, 0
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    for name in _tables(graph):
        if name not in constants:
            continue
        table = numpy_helper.to_array(constants[name])
        rows, first, numbers = np.unique(table, axis=0, return_index=True, return_inverse=True)
        if len(rows) > 0.75 * len(table):
            continue
        order = np.argsort(first)  # as they come in the table, not as they sort
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        constants[name].CopyFrom(numpy_helper.from_array(rows[order], name))
        graph.initializer.append(numpy_helper.from_array(place[numbers.reshape(-1)], f"{name}.row"))
        _look_up_through(graph, name)
        saved += table.size - rows.size - len(table)
    return saved


def _look_up_through(graph: onnx.GraphProto, table: str) -> None:
    nodes = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] == table:
            row = f"{node.output[0]}.row"
            nodes.append(helper.make_node("Gather", [f"{table}.row", node.input[1]], [row], name=row))
            node.input[1] = row
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


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
