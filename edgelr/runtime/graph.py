"""One ONNX file: what goes in and out, whether its weights stay inside its folder, and running it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.external_data import external_locations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession


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
    for name, location in external_locations(path):
        if location not in files:
            raise DamagedArtifactError(
                f"{path}: the weight {name!r} is in {location!r}, which is no file of the package",
                "do not use this package; get it again from where it was built",
            )


def graph_bytes(path: Path) -> int:
    """Size of an ONNX file and of the files beside it that its weights are in.

    Args:
        path: The ONNX file.

    Raises:
        DamagedArtifactError: It is no ONNX model, or a file of its weights is missing.
    """
    files = {path, *(path.parent / location for _, location in external_locations(path))}
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise DamagedArtifactError(f"{path}: its weights cannot be read: {error}", "get it again") from error


def run_graph(
    session: InferenceSession, feeds: Mapping[str, NDArray[Any]], wanted: Sequence[str] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Run a graph once.

    Args:
        session: An open session.
        feeds: Input name -> array; inputs that the graph does not have are left out.
        wanted: Outputs to copy out; all when None.

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
    outputs = [entry.name for entry in session.get_outputs()] if wanted is None else list(wanted)
    try:
        results = session.run(outputs, {name: feeds[name] for name in names})
    except run_errors() as error:
        shapes = ", ".join(f"{name} {list(feeds[name].shape)}" for name in names)
        raise UnsupportedModelError(
            f"ONNX Runtime fails on a graph with {shapes}: {error}", "compare them with the graph's inputs"
        ) from error
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
