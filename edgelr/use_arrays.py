"""What ``edgelr run`` does with a package of arrays: ``.npz`` files in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, DataError, UsageError
from edgelr.terminal import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgelr.artifacts import Package
    from edgelr.device.schema import Device

_SHOWN = 8  # numbers of an array
_MOST_LISTED = 10_000  # in a JSON document


def run_files(
    package: Package, inputs: Sequence[str], device: Device, *, out: Path | None = None
) -> dict[str, Any]:
    """Run every file of arrays, one call each, and print what comes out.

    Args:
        package: As opened by ``open_package``.
        inputs: ``.npz`` files whose arrays are called as the graph's inputs.
        device: The profile to run as.
        out: Where the outputs are written as ``.npz``, of one input.

    Returns:
        ``{"outputs": [{"input", "arrays": {name: {"dtype", "shape", "values"?}}}]}``, in the order of the
        inputs; values of arrays that are not large.

    Raises:
        UsageError: There is no input, several for one file of outputs, or that is no ``.npz``.
        DataError: A file is missing or does not fit the graph.
        UnsupportedModelError: The graph fails.
    """
    from edgelr.device.session import open_session
    from edgelr.runtime.arrays import write_arrays
    from edgelr.runtime.graph import run_graph
    from edgelr.runtime.package import model_path, session_entries
    from edgelr.writing import writing

    if not inputs:
        raise UsageError("there is no input", "give .npz files with the arrays that the graph reads")
    if out is not None and out.suffix != ".npz":
        raise UsageError(f"--out: {out} is no .npz file", f"such as {out.with_suffix('.npz')}")
    if out is not None and len(inputs) != 1:
        raise UsageError(f"--out is for the outputs of one input, {len(inputs)} are given", "give one")
    calls = [(path, read_inputs(Path(path), package)) for path in inputs]
    session = open_session(model_path(package), device, entries=session_entries(package, device.name))
    rows = []
    for path, call in calls:
        found = run_graph(session, call)
        say(f"{path}:")
        for name, array in found.items():
            say(f"  {name} {array.dtype} {list(array.shape)}: {_glimpse(array)}")
        if out is not None:
            with writing(out):
                write_arrays(out, found)
        rows.append({"input": path, "arrays": {name: _listed(array) for name, array in found.items()}})
    return {"outputs": rows}


def read_inputs(path: Path, package: Package) -> dict[str, NDArray[Any]]:
    """The arrays of a file, which fit the graph of a package.

    Args:
        path: An ``.npz`` file.
        package: Whose graph they are for.

    Raises:
        DataError: The file is missing, or an array does not fit.
    """
    from edgelr.runtime.arrays import read_arrays
    from edgelr.runtime.graph_inputs import check_inputs

    wanted = ", ".join(entry.name for entry in package.graphs["model"].inputs)
    try:
        arrays = read_arrays(path)
    except DamagedArtifactError as error:
        raise DataError(error.found, f"give an .npz file with the arrays {wanted}") from error
    check_inputs(arrays, package.graphs["model"], str(path))
    return arrays


def _glimpse(array: NDArray[Any]) -> str:
    first = " ".join(
        f"{value:.4g}" if array.dtype.kind == "f" else str(value) for value in array.flat[:_SHOWN]
    )
    return first if array.size <= _SHOWN else f"{first} ..."


def _listed(array: NDArray[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    return row if array.size > _MOST_LISTED else {**row, "values": array.tolist()}
