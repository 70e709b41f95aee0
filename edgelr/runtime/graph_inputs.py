"""Whether named arrays are what a graph reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ONNX's words for types, where NumPy has others.
_NUMPY = {"float": "float32", "double": "float64"}


def check_inputs(given: Mapping[str, NDArray[Any]], graph: Graph, where: str) -> None:
    """Make sure that a graph can be run on some arrays, and that they consist of numbers.

    Args:
        given: Name -> array; what the graph does not read may be there too.
        graph: What they are for.
        where: What an error begins with.

    Raises:
        DataError: An array is missing, of another type or shape, or has NaN in it; or two disagree about the
            size of an axis.
    """
    import numpy as np

    sizes: dict[str, tuple[str, int]] = {}
    for entry in graph.inputs:
        if entry.name not in given:
            raise DataError(
                f"{where} has no array '{entry.name}', only {', '.join(sorted(given)) or 'none at all'}",
                f"it is an input of {graph.file}",
            )
        array = given[entry.name]
        _check_shape(array, entry, graph, f"{where}: '{entry.name}'")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{where}: '{entry.name}' has NaN or infinity in it", "leave that call out")
        for axis, size in zip(entry.shape, array.shape, strict=True):
            other, known = sizes.setdefault(str(axis), (entry.name, size))
            if isinstance(axis, str) and axis != "?" and known != size:
                raise DataError(
                    f"{where}: '{entry.name}' has {size} in its axis '{axis}', '{other}' has {known}",
                    "both are one size",
                )


def _check_shape(array: NDArray[Any], entry: Tensor, graph: Graph, what: str) -> None:
    kind = _NUMPY.get(entry.dtype, entry.dtype)
    fixed = [size for size in zip(entry.shape, array.shape, strict=False) if isinstance(size[0], int)]
    fits = array.ndim == len(entry.shape) and all(size == found for size, found in fixed)
    if array.dtype != kind or not fits:
        raise DataError(
            f"{what} is {array.dtype} {list(array.shape)}, {graph.file} wants {kind} {list(entry.shape)}",
            "give one array a call, with the batch as its first axis"
            if not fits
            else f"save it with .astype(numpy.{kind})",
        )
