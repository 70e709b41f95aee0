"""What a graph is timed with that nothing is known of: random numbers and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelr.artifacts import Graph, Tensor
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.runtime.caches import COUNTERS, TOTAL

# ONNX's words for types, and NumPy's.
_FLOATS = {"float": "float32", "float16": "float16", "double": "float64"}
_INTEGERS = {"int64": "int64", "int32": "int32", "bool": "bool"}


def made_up_inputs(path: Path, graph: Graph, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Inputs for any graph, as ``worker.py`` takes them: random floats, and ones; caches are full.

    Args:
        path: Of the graph, for errors.
        graph: What goes in.
        sizes: Name of each dynamic axis -> its size.

    Raises:
        UsageError: An axis has no size, or a size no axis.
        UnsupportedModelError: An input is of a type that cannot be made up.
    """
    dynamic = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    if unknown := sorted(set(sizes) - dynamic):
        raise UsageError(
            f"--shape {unknown[0]}: no input has an axis of that name",
            f"known are {', '.join(sorted(dynamic)) or 'none: every size is fixed'}",
        )
    if missing := sorted(dynamic - set(sizes)):
        raise UsageError(f"{path}: the size of axis '{missing[0]}' is open", f"add --shape {missing[0]}=128")
    return {entry.name: _made_up(entry, sizes) for entry in graph.inputs}


def _made_up(entry: Tensor, sizes: Mapping[str, int]) -> dict[str, Any]:
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in entry.shape]
    if entry.dtype in _FLOATS:
        return {"normal": shape, "dtype": _FLOATS[entry.dtype]}
    if entry.dtype in _INTEGERS:
        ones: dict[str, Any] = {"ones": shape, "dtype": _INTEGERS[entry.dtype]}
        if entry.name in COUNTERS and "past" in sizes:
            ones["times"] = sizes["past"] + (entry.name == TOTAL)
        return ones
    raise UnsupportedModelError(
        f"input '{entry.name}' is of type {entry.dtype}, which cannot be made up", "give a package"
    )


def axis_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Sizes of axes as a command line gives them.

    Args:
        texts: Each ``axis=size``.

    Raises:
        UsageError: One is not of that form.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            raise UsageError(f"--shape: {text!r} is no AXIS=SIZE", "such as --shape tokens=128")
        found[name] = int(value)
    return found
