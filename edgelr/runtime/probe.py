"""Look into a graph: the types and the values of what flows between its nodes, as ONNX Runtime has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

# Types as a session tells them, and as ONNX numbers them.
ONNX_TYPES = {
    "tensor(float)": 1,
    "tensor(uint8)": 2,
    "tensor(int8)": 3,
    "tensor(uint16)": 4,
    "tensor(int16)": 5,
    "tensor(int32)": 6,
    "tensor(int64)": 7,
    "tensor(bool)": 9,
    "tensor(float16)": 10,
    "tensor(double)": 11,
    "tensor(uint32)": 12,
    "tensor(uint64)": 13,
}


def open_probe(path: Path, values: Sequence[str], replaceable: Sequence[str] = ()) -> InferenceSession:
    """Open a graph that also gives some of the values between its nodes.

    Args:
        path: An ONNX file; its weights may be in files beside it.
        values: Names of these values; an output's is no fault.
        replaceable: Constants that a run may be given others for, under their names.

    Returns:
        A session on one thread that only computes constants and leaves every value as it is.
    """
    import onnx

    proto = onnx.load(path, load_external_data=False)
    del proto.graph.value_info[:]  # what it declares may be of the graph before
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values if name not in known)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for tensor in (constants[name] for name in replaceable):
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        proto.graph.input.append(value)
    return session_of(proto, path.parent)


def session_of(proto: Any, folder: Path) -> InferenceSession:  # noqa: ANN401 - onnx is not typed
    """Open a graph on one thread, with what ONNX Runtime calls basic optimizations only.

    Args:
        proto: An ``onnx.ModelProto``.
        folder: Where weights are that are outside of it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Basic ones compute constants. Without, a product of 8-bit activations and weights in blocks whose scales
    # the graph computes (MatMulNBits) gives zeros, and no error.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def value_types(path: Path) -> dict[str, Any]:
    """Every value between the nodes of a graph -> its ``ValueInfoProto``, without a shape.

    Args:
        path: An ONNX file.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    names = [name for node in graph.node for name in node.output if name]
    found = {}
    for entry in open_probe(path, names).get_outputs():
        if entry.type in ONNX_TYPES:
            value = onnx.ValueInfoProto(name=entry.name)
            value.type.tensor_type.elem_type = ONNX_TYPES[entry.type]
            found[entry.name] = value
    return found


def run_values(
    session: InferenceSession, values: Sequence[str], feeds: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[Any]]:
    """Run a graph once and give some of the values between its nodes.

    Args:
        session: As ``open_probe`` gives it.
        values: Their names.
        feeds: Input name -> array.
    """
    if not values:
        return {}  # of no names, ONNX Runtime gives everything
    return dict(zip(values, session.run(list(values), dict(feeds)), strict=True))
