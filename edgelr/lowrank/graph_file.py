"""An ONNX file of anybody's, read into the one shape that the rest of this project knows.

What exporters write differently becomes the same: constants are initializers, functions are inlined, weights
are no inputs, no value has a stale shape. The graph computes what it did.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runtime.external_data import external_locations
from edgelr.runtime.graph import graph_bytes, run_errors
from edgelr.runtime.subgraphs import read_inside

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL = "model.onnx"  # what a graph of this project is called
OLDEST_OPSET, NEWEST_OPSET = 11, 25
_LEAST_IR = 4  # before, every weight had to be an input too
EXTERNAL_FROM_BYTES = 2**30  # protobuf ends at 2 GiB; one file is handier as long as it can be


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and its weights.

    Args:
        path: The file; weights may be in files beside it.

    Raises:
        UnsupportedModelError: It is no ONNX model, its operators are too old or too new, or weights are
            missing or outside of its folder.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(path, load_external_data=False)
        if not proto.graph.node:
            raise UnsupportedModelError(f"{path} is no ONNX model: it has no nodes", "give another file")
        for name, location in external_locations(path):
            if not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
                raise UnsupportedModelError(
                    f"{path}: the weight '{name}' is in '{location}', outside of its folder",
                    "a file with its weights beside it is needed",
                )
        onnx.load_external_data_for_model(proto, str(path.parent))
    except DecodeError as error:
        raise UnsupportedModelError(f"{path} is no ONNX model: {error}", "give an ONNX file") from error
    except (OSError, onnx.checker.ValidationError) as error:
        raise UnsupportedModelError(
            f"{path}: it, or a file with its weights, cannot be read: {error}", "get all of its files"
        ) from error
    _check_opset(proto, path)
    return _in_one_shape(proto)


def _check_opset(proto: onnx.ModelProto, path: Path) -> None:
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedModelError(
            f"{path} has opset {opset or 'none'}; {OLDEST_OPSET} to {NEWEST_OPSET} are known",
            "convert it with onnx.version_converter, or export it again",
        )


def _in_one_shape(proto: onnx.ModelProto) -> onnx.ModelProto:
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    proto.ir_version = max(proto.ir_version, _LEAST_IR)
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    _lift_constants(graph)
    _fold_turned(graph)
    return proto


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of the Constant nodes that hold a tensor."""
    kept = []
    for node in graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and not node.domain and value is not None:
            graph.initializer.append(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _fold_turned(graph: onnx.GraphProto) -> None:
    """Store a constant as it is used, where the one node that reads it only turns or renames it."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    elsewhere = {value.name for value in graph.output} | read_inside(graph)
    kept = []
    for node in graph.node:
        source = constants.get(node.input[0]) if node.op_type in ("Transpose", "Identity") else None
        alone = (
            source is not None and reads[source.name] == 1 and not {source.name, node.output[0]} & elsewhere
        )
        if source is None or not alone:
            kept.append(node)
            continue
        array = numpy_helper.to_array(source)
        if node.op_type == "Transpose":
            order = next((each.ints for each in node.attribute if each.name == "perm"), None)
            array = np.ascontiguousarray(array.transpose(order))
        del constants[source.name]
        source.CopyFrom(numpy_helper.from_array(array, node.output[0]))
        constants[source.name] = source
    del graph.node[:]
    graph.node.extend(kept)


def write_graph(proto: onnx.ModelProto, path: Path) -> None:
    """Write deterministic bytes; weights go to a file beside the graph when it would exceed 1 GiB.

    Args:
        proto: With its weights; where they go to a file of their own, they are no longer in it.
        path: Where to; a graph that is there already is replaced, and so are weights beside it.
    """
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # or onnx would append to it
    # Not proto.ByteSize(), which fails beyond what protobuf can write.
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > EXTERNAL_FROM_BYTES:
        onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        path.write_bytes(proto.SerializeToString(deterministic=True))


def is_large(path: Path) -> bool:
    """Whether a graph like the one in a file is to have its weights in a file beside it."""
    return graph_bytes(path) > EXTERNAL_FROM_BYTES


def open_graph(
    path: Path, values: tuple[str, ...] = (), replaceable: tuple[str, ...] = ()
) -> InferenceSession:
    """Open a graph in ONNX Runtime, to look inside; see ``runtime.probe.open_probe``.

    Raises:
        MissingRequirementError: It has operators that the runtime has not.
        UnsupportedModelError: The runtime cannot load it for another reason.
    """
    from edgelr.runtime.probe import open_probe

    try:
        return open_probe(path, values, replaceable)
    except (*run_errors(), *_invalid()) as error:
        raise load_error(path, error) from error


def load_error(path: Path, error: Exception) -> MissingRequirementError | UnsupportedModelError:
    """What a graph that ONNX Runtime does not load lacks: an operator, or sense."""
    reason = str(error).strip().splitlines()[0]
    unknown = ("is not a registered function/op", "No Op registered", "Could not find an implementation")
    if any(text in reason for text in unknown):
        return MissingRequirementError(
            f"{path.name} has operators that this ONNX Runtime has not: {reason}",
            "install the package of the operators' library, or replace them",
        )
    return UnsupportedModelError(
        f"{path.name}: ONNX Runtime cannot load it: {reason}", "check it with onnx.checker"
    )


def _invalid() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return state.InvalidGraph, state.InvalidProtobuf
