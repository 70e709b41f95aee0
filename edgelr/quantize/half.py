"""Scheme ``fp16``: weights and activations of 16 bits, with islands of fp32 where values overflow.

Half the bytes and nearly nothing lost; GPUs and NPUs compute in it. A CPU mostly converts to fp32 and back.
Inputs and outputs of the graph stay what they were.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.quiet import quiet
from edgelr.quantize.static import Feeds
from edgelr.runtime.probe import open_probe, run_values, value_types
from edgelr.runtime.subgraphs import read_inside

LARGEST = 2.0**15  # half of what fp16 reaches: data that was not seen may be larger
_WORKS_IN_FP32 = frozenset(  # of other schemes: their scales stay fp32
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "MatMulNBits"}
    | {"GatherBlockQuantized", "Range", "Loop", "If", "Scan"}
)


def convert_to_half(
    source: Path, target: Path, nodes: Sequence[str] | None, feeds: Sequence[Feeds]
) -> tuple[str, ...]:
    """Convert nodes to fp16, by the converter that comes with ONNX Runtime.

    Args:
        source: A graph; it may be quantized in part.
        target: Where to write the converted one.
        nodes: Names of those to convert; None for all.
        feeds: Calibration data, to find what overflows; without any, only constants are looked at.

    Returns:
        Names of the nodes that stay fp32 because of what they read or give: the islands.
    """
    import onnx

    from edgelr.lowrank.graph_file import write_graph

    proto = onnx.load(source)
    _cut_masks(proto.graph)
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder) / source.name
        onnx.save(proto, cut, save_as_external_data=True, location=f"{source.name}.data")
        onnx.load_external_data_for_model(proto, folder)
        types = value_types(cut)
        islands = _overflowing(proto, cut, types, feeds)
    inside = read_inside(proto.graph)  # branches and loops stay fp32
    blocked = [
        node.name
        for node in proto.graph.node
        if node.name in islands
        or inside & {*node.input, *node.output}
        or node.op_type in _WORKS_IN_FP32
        or (nodes is not None and node.name not in set(nodes))
    ]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(types.values())
    with quiet():
        from onnxruntime.quantization.onnx_model import ONNXModel
        from onnxruntime.transformers.float16 import convert_float_to_float16

        half = convert_float_to_float16(
            proto,
            keep_io_types=True,
            disable_shape_infer=True,  # it ends at operators of ONNX Runtime's own; the types are there
            node_block_list=blocked,
        )
    _join_islands(half.graph)
    del half.graph.value_info[:]
    ONNXModel(half).topological_sort()  # the converter adds its own nodes at the end
    write_graph(half, target)
    converted = {node.name for node in proto.graph.node} - set(blocked)
    return tuple(sorted(islands)) if nodes is None else tuple(sorted(islands - converted))


def _cut_masks(graph: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Bring single huge numbers within range: -1e9, added to what is masked, only means very little."""
    from onnx import TensorProto, numpy_helper

    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) != 1:
            continue
        array = numpy_helper.to_array(tensor)
        if np.isfinite(array).all() and np.abs(array).max() > LARGEST:
            cut = np.clip(array, -LARGEST, LARGEST).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(cut, tensor.name))


def _overflowing(proto: Any, path: Path, types: dict[str, Any], feeds: Sequence[Feeds]) -> set[str]:  # noqa: ANN401
    """Names of the nodes that read or give a number that fp16 cannot hold."""
    from onnx import TensorProto, numpy_helper

    large = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and _largest(numpy_helper.to_array(tensor)) > LARGEST
    }
    floats = [name for name, value in types.items() if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    session = open_probe(path, floats)
    for given in feeds:
        values = {**run_values(session, floats, given), **given}
        large |= {
            name for name, array in values.items() if array.dtype == np.float32 and _largest(array) > LARGEST
        }
    return {node.name for node in proto.graph.node if large & {*node.input, *node.output}}


def _largest(array: NDArray[Any]) -> float:
    return float(np.abs(array).max(initial=0.0))


def _join_islands(graph: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Between two nodes that stay fp32, do without the fp16 that the converter puts there."""
    from onnx import TensorProto

    before = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast"
        and node.name.endswith("_cast_to_fp16_node")
        and _to(node) == TensorProto.FLOAT16
    }
    back = {
        node.output[0]: before[node.input[0]]
        for node in graph.node
        if node.op_type == "Cast" and node.name.endswith("_cast_to_fp32_node") and node.input[0] in before
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = back.get(name, name)
    # An output of the graph that an island gives goes through fp16 too.
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in outputs and node.input[0] in before:
            node.input[0] = before[node.input[0]]
    nodes, unread = list(graph.node), True
    while unread:  # the way back first, then what led to it
        read = {name for node in nodes for name in node.input} | outputs
        unread = any(node.op_type == "Cast" and node.output[0] not in read for node in nodes)
        nodes = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    made = {name for node in graph.node for name in node.output}
    again = {inner: name for name, inner in before.items() if name not in made}  # as it was called before
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = again.get(name, name)


def _to(node: Any) -> int:  # noqa: ANN401 - onnx is not typed
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")
