"""One ONNX file: what goes in and out, whether its weights stay inside its folder, and running it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import DamagedArtifactError, UnsupportedModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession


_PART_BYTES = 2**20


def describe_graph(path: Path) -> Graph:
    """Read the inputs and outputs of an ONNX file; its weights stay on the disk where they are external.

    Args:
        path: The ONNX file; the graph's ``file`` is its name without the folder.

    Raises:
        DamagedArtifactError: The file is missing or is no ONNX model.
    """
    graph = _load(path).graph
    weights = {initializer.name for initializer in graph.initializer}
    return Graph(
        file=path.name,
        inputs=tuple(_tensor(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in graph.output),
    )


def check_external_data(path: Path, files: Collection[str]) -> None:
    """Check that every external weight of an ONNX file is in one of ``files``, beside it.

    Args:
        path: The ONNX file.
        files: Names that may hold weights, relative to the folder of ``path``.

    Raises:
        DamagedArtifactError: Weights are elsewhere, or the file cannot be read.
    """
    if not _mentions(path, b"location"):
        return  # the key of every external weight: without it there is none, and no need to load the file
    for tensor in _tensors(_load(path)):
        for location in (entry.value for entry in tensor.external_data if entry.key == "location"):
            if location not in files:
                raise DamagedArtifactError(
                    f"{path}: the weight {tensor.name!r} is in {location!r}, which is no file of the package",
                    "do not use this package; get it again from where it was built",
                )


def _mentions(path: Path, word: bytes) -> bool:
    """Whether a file has a word somewhere, read in parts: it may be larger than the memory of a phone."""
    kept = b""
    try:
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                if word in kept + part:
                    return True
                kept = part[-len(word) :]
    except OSError as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", "build it again") from error
    return False


def graph_bytes(path: Path) -> int:
    """Size of an ONNX file and of the files beside it that its weights are in.

    Args:
        path: The ONNX file.

    Raises:
        DamagedArtifactError: It is no ONNX model, or a file of its weights is missing.
    """
    entries = [entry for tensor in _tensors(_load(path)) for entry in tensor.external_data]
    files = {path, *(path.parent / entry.value for entry in entries if entry.key == "location")}
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise DamagedArtifactError(f"{path}: its weights cannot be read: {error}", "get it again") from error


def run_graph(
    session: InferenceSession, feeds: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float32]]:
    """Run a graph once.

    Args:
        session: An open session.
        feeds: Input name -> array; inputs that the graph does not have are left out.

    Returns:
        Output name -> array.

    Raises:
        UnsupportedModelError: The graph needs another input, or ONNX Runtime fails on it.
    """
    names = [entry.name for entry in session.get_inputs()]
    if missing := sorted(set(names) - set(feeds)):
        raise UnsupportedModelError(
            f"the graph has inputs this task does not give: {', '.join(missing)}",
            f"known are {', '.join(feeds)}",
        )
    outputs = [entry.name for entry in session.get_outputs()]
    try:
        results = session.run(outputs, {name: feeds[name] for name in names})
    except run_errors() as error:
        shapes = ", ".join(f"{name} {list(feeds[name].shape)}" for name in names)
        raise UnsupportedModelError(f"ONNX Runtime fails on a graph with {shapes}: {error}") from error
    return dict(zip(outputs, results, strict=True))


def run_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises when a graph fails on its input; the exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.RuntimeException,
        state.NotImplemented,
        state.EPFail,
        RuntimeError,  # all of them, where inputs and outputs are bound
    )


def _load(path: Path) -> Any:  # noqa: ANN401 - onnx is not typed
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read as an ONNX model: {error}", "build it again"
        ) from error
    if not model.HasField("graph"):
        raise DamagedArtifactError(f"{path} is not an ONNX model: it has no graph", "build it again")
    return model


def _tensor(value: Any) -> Tensor:  # noqa: ANN401 - onnx is not typed
    from onnx import TensorProto

    kind = value.type.tensor_type
    shape = tuple(
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"
        for dimension in kind.shape.dim
    )
    return Tensor(name=value.name, dtype=TensorProto.DataType.Name(kind.elem_type).lower(), shape=shape)


def _tensors(model: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx is not typed
    """Every tensor that can have external data: weights, sparse weights and attributes, at any depth."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx is not typed
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx is not typed
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)
