"""A graph as a provider sees it: sizes fixed as it needs them, after ONNX Runtime's basic optimizations.

They run before any node is given to a provider: constants are folded then, so that arithmetic on shapes is
gone where shapes are fixed, and every value has a type and as much of a shape as is known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelr.errors import UnsupportedModelError
from edgelr.runtime.probe import ONNX_TYPES


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a node reads or gives.

    Attributes:
        name: In the graph.
        dtype: In ONNX words (``float``, ``int64``); "" when it is not known.
        shape: None for a size that is open; the whole is None when not even the rank is known.
        constant: Whether it is a weight.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    constant: bool = False

    @property
    def fixed(self) -> bool:
        """Whether every size is known."""
        return self.shape is not None and None not in self.shape


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node.

    Attributes:
        name: In the graph.
        operator: Its type, with its domain before a colon where that is not ONNX's own.
        inputs: None where an optional one is left out.
        outputs: Likewise.
        attributes: Numbers, lists of numbers, and text.
    """

    name: str
    operator: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def seen_graph(path: Path, sizes: Mapping[str, int]) -> tuple[Node, ...]:
    """The nodes of a graph, in an order in which they can run.

    Args:
        path: The ONNX file.
        sizes: Name of an axis -> its size; other axes stay open.

    Raises:
        UnsupportedModelError: ONNX Runtime cannot read the graph.
    """
    return nodes_of(seen_model(path, sizes))


def seen_model(path: Path, sizes: Mapping[str, int]) -> Any:  # noqa: ANN401 - onnx is not typed
    """The same as an ONNX model, without the contents of its weights.

    Args:
        path: The ONNX file.
        sizes: Name of an axis -> its size; other axes stay open.

    Raises:
        UnsupportedModelError: ONNX Runtime cannot read the graph.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgelr-") as folder:
        target = Path(folder) / "seen.onnx"
        try:
            _open(path, "ORT_ENABLE_BASIC", sizes, target)
            model = onnx.load(target, load_external_data=False)
            model.graph.value_info.extend(_inner_values(model, Path(folder) / "told.onnx"))
        except _refusals() as error:
            raise UnsupportedModelError(f"{path}: ONNX Runtime cannot read the graph: {error}") from error
        return model


def _refusals() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


def _open(path: Path, level: str, sizes: Mapping[str, int] = {}, target: Path | None = None) -> Any:  # noqa: ANN401
    """A session that is never run; with ``target``, what it made of the graph is written there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    if target is not None:
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _inner_values(model: Any, path: Path) -> list[Any]:  # noqa: ANN401 - onnx is not typed
    """Type and shape of every value between the nodes, as ONNX Runtime infers them: of its own operators too.

    It tells them of outputs only, so all are made outputs, of a copy at ``path``.
    """
    import onnx

    declared = {value.name for value in (*model.graph.input, *model.graph.output)}
    told = onnx.ModelProto()
    told.CopyFrom(model)
    names = (name for node in model.graph.node for name in node.output if name and name not in declared)
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnx.save(told, path)
    return [
        onnx.helper.make_tensor_value_info(entry.name, ONNX_TYPES[entry.type], entry.shape)
        for entry in _open(path, "ORT_DISABLE_ALL").get_outputs()
        if entry.name not in declared and entry.type in ONNX_TYPES
    ]


def nodes_of(model: Any) -> tuple[Node, ...]:  # noqa: ANN401 - onnx is not typed
    """The nodes of a model that declares its values.

    Args:
        model: An ONNX model; nodes of graphs inside nodes are not looked at.
    """
    import onnx

    graph = model.graph
    values = {value.name: _declared(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        dtype = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        values[tensor.name] = Value(name=tensor.name, dtype=dtype, shape=tuple(tensor.dims), constant=True)
    return tuple(
        Node(
            name=node.name,
            operator=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}",
            inputs=tuple(_value(name, values) for name in node.input),
            outputs=tuple(_value(name, values) for name in node.output),
            attributes={each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
        )
        for node in graph.node
    )


def _value(name: str, values: Mapping[str, Value]) -> Value | None:
    return values.get(name, Value(name=name, dtype="", shape=None)) if name else None


def _declared(value: Any) -> Value:  # noqa: ANN401 - onnx is not typed
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else ""
    if not kind.HasField("shape"):
        return Value(name=value.name, dtype=dtype, shape=None)
    sizes = (each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim)
    return Value(name=value.name, dtype=dtype, shape=tuple(sizes))
