"""Embedding tables as int8 rows, each with its own scale.

An embedding is half of a small encoder's bytes. ONNX Runtime's quantizer gives a table one scale for all
rows, and rare words pay for it. Here each row keeps its range: gather the int8 rows and their scales, and
multiply. All operators are standard ones, so every execution provider has them. ``blocks`` is the other way:
fewer nodes, and the same bytes for every graph, by operators of ONNX Runtime's own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.runtime.subgraphs import read_inside

# What ONNX Runtime's quantizer calls the parts of a matrix.
_MATRIX, _SCALE, _ZERO = "_quantized", "_scale", "_zero_point"

SMALLEST_TABLE = 2**16  # numbers; below this the scales and the extra nodes are not worth it


def quantize_tables(proto: Any, kept: Collection[str] = ()) -> int:  # noqa: ANN401 - onnx is not typed
    """Replace every gathered fp32 table ``[rows, dim]`` by int8 rows and scales, in place.

    Args:
        proto: An ``onnx.ModelProto`` with its weights inside.
        kept: Names of tables that stay as they are.

    Returns:
        How many tables were replaced.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    shared = _shared_tables(graph)
    tables = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] * tensor.dims[1] >= SMALLEST_TABLE
        and tensor.name not in {*kept, *read_inside(graph)}
    }
    done: set[str] = set()
    nodes = []
    for node in graph.node:
        name = node.input[0] if node.op_type == "Gather" else ""
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if (name not in tables and name not in shared) or axis != 0:
            nodes.append(node)
            continue
        if name not in done and name in tables:
            rows, scales = quantize_rows(numpy_helper.to_array(tables[name]))
            graph.initializer.append(numpy_helper.from_array(rows, f"{name}.int8"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
        elif name not in done:
            nodes.append(_rows_of_matrix(graph, shared[name], name))
        done.add(name)
        out, ids = node.output[0], node.input[1]
        nodes += [
            helper.make_node("Gather", [f"{name}.int8", ids], [f"{out}.int8"], name=f"{out}.rows"),
            helper.make_node(
                "Cast", [f"{out}.int8"], [f"{out}.float"], to=TensorProto.FLOAT, name=f"{out}.cast"
            ),
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{out}.scale"], name=f"{out}.scales"),
            helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], name=f"{out}.dequantize"),
        ]
    read = {name for node in nodes for name in node.input}
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.output[0] in read or node.output[0] not in shared)
    _drop_unused(graph, {shared.get(name, name) for name in done})
    return len(done)


def _shared_tables(graph: Any) -> dict[str, str]:  # noqa: ANN401 - onnx is not typed
    """Tables that are the transpose of a matrix that the quantizer has made int8, and that matrix.

    The quantizer's zero points are all 0: its int8 weights are symmetric.
    """
    constants = {tensor.name for tensor in graph.initializer}
    return {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and {node.input[0], node.input[0] + _MATRIX} <= constants
    }


def _rows_of_matrix(graph: Any, matrix: str, table: str) -> Any:  # noqa: ANN401 - onnx is not typed
    """Give a table the int8 rows of a quantized matrix ``[dim, rows]``, stored once, and their scales."""
    from onnx import helper, numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    assert not numpy_helper.to_array(tensors[matrix + _ZERO]).any()
    scales = numpy_helper.to_array(tensors[matrix + _SCALE]).reshape(-1, 1)
    graph.initializer.append(numpy_helper.from_array(scales, f"{table}.scale"))
    return helper.make_node(
        "Transpose", [matrix + _MATRIX], [f"{table}.int8"], name=f"{table}.int8", perm=[1, 0]
    )


def quantize_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row to int8 with a symmetric scale.

    Args:
        table: ``[rows, dim]``.

    Returns:
        ``int8 [rows, dim]`` and ``scale [rows, 1]``; their product is within half a scale of the table.
    """
    scales = np.abs(table).max(axis=1, keepdims=True).astype(np.float32) / np.float32(127)
    scales[scales == 0] = 1.0
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales


def _drop_unused(graph: Any, names: set[str]) -> None:  # noqa: ANN401 - onnx is not typed
    """Remove the fp32 tables that no node reads any more (a tied head still reads its own)."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in names or tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
