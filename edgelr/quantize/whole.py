"""A graph quantized from input to output, as a neural processor runs it: nothing between is a float.

Activations have 16 bits, matrices int8 with a scale for each output. ONNX Runtime knows what QNN asks of
each operator (``onnxruntime.quantization.execution_providers.qnn``); tables are made ready for it here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.quiet import quiet
from edgelr.quantize.static import Feeds, Method, calibration_reader, calibrators

_MASK = "attention_mask"
_OTHERS = {"Attention", "QuantizeLinear", "DequantizeLinear"}  # of ONNX itself, and nothing for that


def is_plain(proto: Any, products: Collection[str]) -> bool:  # noqa: ANN401 - onnx is not typed
    """Whether a graph is of operators that NPUs take, in fp32, and all its products with a matrix are chosen.

    Args:
        proto: An ``onnx.ModelProto``.
        products: Names of the nodes that are to be quantized.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in _OTHERS:
            return False
        if node.op_type == "MatMul" and constants & set(node.input) and node.name not in products:
            return False
    return True


def quantize_whole(source: Path, target: Path, feeds: Sequence[Feeds], method: Method) -> None:
    """Quantize every operator of a graph.

    Args:
        source: A plain fp32 graph.
        target: Where to write the quantized one.
        feeds: Calibration data, at least one call.
        method: How a range is found.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    proto = onnx.load(source)
    split_tables(proto)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "ready.onnx"
        onnx.save(proto, path, save_as_external_data=True, location="ready.data")
        settings = get_qnn_qdq_config(
            path,
            calibration_reader(tuple(_with_padding(feeds, proto))),
            calibrate_method=calibrators()[method],
            activation_type=QuantType.QUInt16,
            weight_type=QuantType.QUInt8,  # of norms and tables: QNN has no norm with int8 weights
            init_overrides=dict(_a_scale_each_output(proto, QuantType.QInt8)),
            stride=1,
        )
        quantize(path, target, settings)


def split_tables(proto: Any) -> int:  # noqa: ANN401 - onnx is not typed
    """Make each gathered table ``[rows, dim]`` one of rows up to 1, times a scale a row; nothing changes.

    A quantizer that knows one scale for a table then keeps the range of each row.

    Args:
        proto: An ``onnx.ModelProto`` with its weights inside; changed in place.

    Returns:
        How many tables were split.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    tables = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and readers.get(tensor.name) == {"Gather"}
    }
    split: set[str] = set()
    nodes = []
    for node in graph.node:
        nodes.append(node)
        name = node.input[0] if node.op_type == "Gather" else ""
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if name not in tables or axis != 0:
            continue
        if name not in split:
            rows, scales = _unit_rows(numpy_helper.to_array(tables[name]))
            tables[name].CopyFrom(numpy_helper.from_array(rows, name))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
            split.add(name)
        out, ids = node.output[0], node.input[1]
        node.output[0] = f"{out}.unit"
        nodes += [
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{out}.scale"], name=f"{out}.scale"),
            helper.make_node("Mul", [f"{out}.unit", f"{out}.scale"], [out], name=f"{out}.scaled"),
        ]
    made = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(made)
    return len(split)


def _unit_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scales = np.abs(table).max(axis=1, keepdims=True)
    scales[scales == 0] = 1.0
    return (table / scales).astype(np.float32), scales.astype(np.float32)


def _a_scale_each_output(proto: Any, kind: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:  # noqa: ANN401
    """How to quantize each matrix that is multiplied by."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            yield node.input[1], [{"quant_type": kind, "axis": 1, "symmetric": True}]


def _with_padding(feeds: Sequence[Feeds], proto: Any) -> Iterator[Feeds]:  # noqa: ANN401 - onnx is not typed
    """Each call padded along the axis of its mask, where there is one: what is hidden has a range as well."""
    inputs = {each.name: each.type.tensor_type.shape.dim for each in proto.graph.input}
    axes = {name: [axis.dim_param for axis in shape] for name, shape in inputs.items()}
    hidden = axes.get(_MASK, ["", ""])[1]
    longest = max((feed[_MASK].shape[1] for feed in feeds if _MASK in feed), default=0)
    for feed in feeds:
        if not hidden:
            yield feed
            continue
        more = longest + 1 - feed[_MASK].shape[1]
        yield {
            name: np.pad(array, [(0, more if axis == hidden else 0) for axis in axes[name]])
            for name, array in feed.items()
        }
